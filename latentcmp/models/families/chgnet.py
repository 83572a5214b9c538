"""CHGNet (Deng et al., Nature Machine Intelligence 5, 1031, 2023): invariant features, plain eager modules."""

import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.hooks.points import HookPoint
from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.checkpoint import load_weights
from latentcmp.systems.screen import in_box


def _points(readout_layers: int = 8, convolutions: int = 4) -> tuple[HookPoint, ...]:
    """The last layer is the SiLU before the linear readout; the dropout between the two is zero."""
    return (
        HookPoint("last", f"mlp.layers.{readout_layers - 3}", width=64),
        HookPoint("backbone", f"atom_conv_layers.{convolutions - 1}", width=64),
        *(HookPoint(f"backbone.{t}", f"atom_conv_layers.{t}", width=64) for t in range(convolutions - 1)),
        HookPoint("embedding", "atom_embedding", width=64),
    )


def _card(
    name: str,
    folder: str,
    file: str,
    sha256: str,
    trained_on: str,
    energies: tuple[float, ...],
    readout_layers: int = 8,
    cutoff: float = 6.0,
) -> ModelCard:
    return ModelCard(
        name=name,
        family="chgnet",
        package="chgnet",
        module="chgnet",
        checkpoint=f"pretrained/{folder}/{file}",
        sha256=sha256,
        licence="Modified BSD",
        trained_on=trained_on,
        elements=frozenset(range(1, 95)),
        points=_points(readout_layers),
        energies=energies,
        needs_cell=True,
        isolation_cutoff=cutoff,
    )


CARDS = (
    _card(
        "chgnet-0.3.0",
        "0.3.0",
        "chgnet_0.3.0_e29f68s314m37.pth.tar",
        "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
        "MPtrj PBE(+U)",
        (-5.3122, -3.6664, -4.0833, -6.3102),
    ),
    _card(
        "chgnet-0.2.0",
        "0.2.0",
        "chgnet_0.2.0_e30f77s348m32.pth.tar",
        "ef624f78b6db9d315b4ef256f1bb3207449924191b91720dc17d3f60c5df980e",
        "MPtrj PBE(+U)",
        (-5.3699, -3.6866, -4.0671, -6.3167),
        readout_layers=6,
        cutoff=5.0,
    ),
    _card(
        "chgnet-r2scan",
        "r2scan",
        "chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        "8eba3db0f35a2788bb3ae22885ad340591e27996f213c6643af522a633b50dad",
        "r2SCAN, transfer from MPtrj PBE(+U)",
        (-8.7333, -6.8687, -10.8180, -8.0399),
    ),
)


class CHGNetAdapter(Adapter):
    """Crystal graphs by pymatgen, which need three cell vectors; energies per atom."""

    def graph(self, atoms: Atoms) -> Any:
        """Build a `CrystalGraph`."""
        from pymatgen.io.ase import AseAtomsAdaptor

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # of noble gases, not used here
            return self.module.graph_converter(AseAtomsAdaptor.get_structure(in_box(atoms)))  # type: ignore[operator]

    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """Run one forward: energies [n_systems] in eV/atom."""
        return self.module([graph.to(self.device) for graph in graphs], task="e")["e"]

    def constructed_anew(self) -> "CHGNetAdapter":
        """Construct the network from its `model_args`."""
        module: Any = self.module
        with redirect_stdout(StringIO()):  # CHGNet prints the number of its parameters
            return CHGNetAdapter(self.card, type(module)(**module.model_args), self.device)


def load(card: ModelCard, path: Path, device: torch.device, trust: bool) -> CHGNetAdapter:
    """Load a checkpoint {"model": {"model_args", "state_dict"}} without pickle (`latentcmp.models.card.Family`)."""
    from chgnet.model import CHGNet

    content = load_weights(path)
    if not isinstance(content, dict) or not {"model_args", "state_dict"} <= set(content.get("model", {})):
        raise InputError(f"{path} is not a CHGNet checkpoint: expected model.model_args and model.state_dict")
    arguments, weights = content["model"]["model_args"], content["model"]["state_dict"]
    has_bias = any(key.endswith("mlp_out.layers.1.bias") for key in weights)  # as in version 0.2.0
    with redirect_stdout(StringIO()):  # CHGNet prints the number of its parameters
        module = CHGNet.from_dict({"model_args": arguments | {"mlp_out_bias": has_bias}, "state_dict": weights})
    points = _points(len(module.mlp.layers), len(module.atom_conv_layers))
    cutoff = float(module.graph_converter.atom_graph_cutoff)
    return CHGNetAdapter(replace(card, points=points, isolation_cutoff=cutoff), module, device)
