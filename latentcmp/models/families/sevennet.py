"""SevenNet (Park et al., JCTC 20, 4857, 2024): equivariant features in e3nn layout."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.hooks.points import HookPoint
from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.checkpoint import require_trust

ELEMENTS = frozenset([*range(1, 84), *range(89, 95)])
EAGER = {"cuequivariance_config": {"use": False}, "use_flash_tp": False, "use_oeq": False, "_flash_lammps": False}
"""Configuration without accelerators, as `SevenNetCheckpoint.build_model` sets it by default."""


def _points(inner: str, width: int, blocks: int = 5) -> tuple[HookPoint, ...]:
    """All modules take and return one mutable mapping, whose "x" holds the node features after each module."""
    scalars = "128x0e"
    return (
        HookPoint("last", "reduce_input_to_hidden", "x", irreps="64x0e", width=64),
        HookPoint("backbone", f"{blocks - 1}_equivariant_gate", "x", irreps=scalars, width=128),
        *(
            HookPoint(f"backbone.{t}", f"{t}_equivariant_gate", "x", irreps=inner, width=width)
            for t in range(blocks - 1)
        ),
        HookPoint("embedding", "onehot_to_feature_x", "x", irreps=scalars, width=128),
    )


def _card(
    name: str,
    file: str,
    sha256: str,
    energies: tuple[float, ...],
    trained_on: str = "MPtrj PBE(+U)",
    modality: str | None = None,
    lmax: int = 2,
) -> ModelCard:
    points = _points("128x0e+64x1e+32x2e", 480) if lmax == 2 else _points("128x0e+64x1e+32x2e+32x3e", 704)
    return ModelCard(
        name=name,
        family="sevennet",
        package="sevenn",
        module="sevenn",
        checkpoint=f"pretrained_potentials/{file}",
        sha256=sha256,
        licence="MIT",
        trained_on=trained_on,
        elements=ELEMENTS,
        points=points,
        energies=energies,
        options={"modality": modality} if modality else {},
    )


_MF_FILE = "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth"
_MF_SHA256 = "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd"

CARDS = (
    _card(
        "sevennet-0",
        "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        (-5.4008, -3.3827, -4.0962, -5.9735),
    ),
    _card(
        "sevennet-0-22may2024",
        "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
        "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1",
        (-5.4107, -3.3795, -4.0817, -5.9711),
    ),
    _card("sevennet-mf-0", _MF_FILE, _MF_SHA256, (-5.3756, -3.3858, -4.0851, -5.9645), "MPtrj PBE(+U), r2SCAN", "PBE"),
    _card(
        "sevennet-mf-0-r2scan",
        _MF_FILE,
        _MF_SHA256,
        (-8.7184, -6.8896, -10.8179, -8.0458),
        "MPtrj PBE(+U), r2SCAN",
        "R2SCAN",
    ),
    _card(
        "sevennet-l3i5",
        "SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        (-5.4219, -3.3854, -4.0920, -5.9754),
        lmax=3,
    ),
)


class SevenNetAdapter(Adapter):
    """Neighbour lists by matscipy, PyG batches; open boundaries are supported.

    Args:
        card: the card of the checkpoint.
        module: the network, with its force head, which is removed: its autograd.grad raises where gradients are off.
        device: where it runs.
        config: the configuration of the network.
    """

    def __init__(self, card: ModelCard, module: Any, device: torch.device, config: Mapping[str, Any]) -> None:
        module.set_is_batch_data(True)
        module.delete_module_by_key("force_output")
        super().__init__(card, module, device)
        self.config = config

    def graph(self, atoms: Atoms) -> Any:
        """Build an `AtomGraphData`, with the modality where the card has one."""
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, self.module.cutoff))  # type: ignore[arg-type]
        if "modality" in self.card.options:
            graph["data_modality"] = self.card.options["modality"]
        return graph

    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """Run one forward: energies [n_systems] in eV/atom."""
        from torch_geometric.data import Batch

        out = self.module(Batch.from_data_list(list(graphs)).to(self.device))
        return out["inferred_total_energy"] / out["num_atoms"]

    def constructed_anew(self) -> "SevenNetAdapter":
        """Construct the network from its configuration, with its mean numbers of neighbours."""
        from sevenn.model_build import build_E3_equivariant_model

        module = build_E3_equivariant_model(deepcopy({**self.config, **EAGER}))  # which changes its argument
        state = self.module.state_dict()  # the configurations of old versions have zeros as denominators
        kept = {name: value for name, value in state.items() if name.endswith(".denominator")}
        module.load_state_dict(kept, strict=False)
        return SevenNetAdapter(self.card, module, self.device, self.config)

    def point(self, layer: str) -> HookPoint:
        """Return the hook point of a layer, with the layout that the module at a path states."""
        point = super().point(layer)
        if point in self.card.points:
            return point
        return replace(point, select="x", irreps=_irreps(dict(self.module.named_modules()).get(layer)))


def load(card: ModelCard, path: Path, device: torch.device, trust: bool) -> SevenNetAdapter:
    """Load a checkpoint (.pth), which needs pickle (`latentcmp.models.card.Family`)."""
    require_trust(card, path, trust, "needs pickle")
    from sevenn.checkpoint import SevenNetCheckpoint

    checkpoint = SevenNetCheckpoint(path)
    module = checkpoint.build_model()
    return SevenNetAdapter(_as_loaded(card, module), module, device, checkpoint.config)


def _as_loaded(card: ModelCard, module: Any) -> ModelCard:
    """The card with the elements, layers and layouts of the checkpoint."""
    modalities, given = dict(module.modal_map or {}), card.options.get("modality")
    if (given or modalities) and given not in modalities:
        raise InputError(
            f"{card.name} needs one of the modalities {', '.join(modalities) or '(none)'}, got {given}: PATH#MODALITY"
        )
    children = dict(module.named_children())
    blocks = sum(name.endswith("_equivariant_gate") for name in children)
    points = []
    for point in _points("", 0, blocks):
        irreps = _irreps(children[point.path])
        points.append(replace(point, irreps=irreps, width=_dimension(irreps)))
    return replace(card, points=tuple(points), elements=frozenset(module.type_map))


def _irreps(module: Any) -> str | None:
    """The e3nn layout of a module's output, None where it states none."""
    irreps = getattr(getattr(module, "gate", module), "irreps_out", None)
    return None if irreps is None else str(irreps)


def _dimension(irreps: str | None) -> int | None:
    from e3nn.o3 import Irreps

    return None if irreps is None else Irreps(irreps).dim
