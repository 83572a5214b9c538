"""DIEP (direct integration of the external potential), an invariant M3GNet-like model on PyG graphs."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from ase import Atoms
from torch import Tensor

from latentcmp.hooks.points import HookPoint
from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.checkpoint import require_trust
from latentcmp.systems.screen import in_box

# The energy is layers.6(.) * sigmoid(gates.6(.)), so the readout has two last layers: "last" is the linear branch.
CARDS = (
    ModelCard(
        name="diep",
        family="diep",
        package="diep",
        module="diep",
        checkpoint="pretrained_models/diep_fold1/state.pt",
        sha256="3be1df5dbe3d15e1d35a2ca1d3c50a6b212ea2d248c89e02d84fa780eb609576",
        licence="BSD-3-Clause",
        trained_on="MatPES r2SCAN",
        elements=frozenset([*range(1, 84), *range(89, 95)]),
        points=(
            HookPoint("last", "final_layer.gated.layers.5", width=64),
            HookPoint("last.gate", "final_layer.gated.gates.5", width=64),
            HookPoint("backbone", "graph_layers.2", 1, width=64),
            *(HookPoint(f"backbone.{t}", f"graph_layers.{t}", 1, width=64) for t in range(2)),
        ),
        energies=(-8.7634, -6.8906, -10.8369, -8.0505),
        needs_cell=True,
    ),
)


class DIEPAdapter(Adapter):
    """Graphs of PyG; the potential scales the network's energies and adds those of free atoms.

    Args:
        card: the card of the checkpoint.
        potential: the loaded potential, whose `model` is the network that hooks tap.
        device: where it runs.
    """

    def __init__(self, card: ModelCard, potential: Any, device: torch.device) -> None:
        self.potential = potential.to(device).eval()
        super().__init__(card, self.potential.model, device)

    def graph(self, atoms: Atoms) -> Any:
        """Build a PyG graph with its lattice and state."""
        from diep.ext.ase import Atoms2Graph

        wrapped = in_box(atoms).copy()
        wrapped.wrap()  # the neighbour search slows down cubically with the extent of unwrapped atoms
        return Atoms2Graph(self.module.element_types, self.module.cutoff).get_graph(wrapped)

    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """Run one forward: energies [n_systems] in eV/atom."""
        from torch_geometric.data import Batch

        batch = cast(Any, Batch.from_data_list([graph for graph, _, _ in graphs])).to(self.device)
        lattices = torch.cat([lattice.reshape(1, 3, 3) for _, lattice, _ in graphs]).to(self.device)
        self.potential._set_positions(batch, lattices)
        energies = self.potential.data_std * self.module(batch, None) + self.potential.data_mean
        if self.potential.element_refs is not None:
            energies = energies + self.potential.element_refs(batch).squeeze()
        return energies.reshape(-1) / torch.tensor([graph.num_nodes for graph, _, _ in graphs], device=self.device)

    def constructed_anew(self) -> "DIEPAdapter":
        """Construct the network from its own arguments, in a copy of the potential."""
        potential, module = deepcopy(self.potential), cast(Any, self.module)
        potential.model = type(module)(**module._init_args)
        return DIEPAdapter(self.card, potential, self.device)


def load(card: ModelCard, path: Path, device: torch.device, trust: bool) -> DIEPAdapter:
    """Load a DIEP model: its folder, or the state.pt in it (`latentcmp.models.card.Family`)."""
    state = path / "state.pt" if path.is_dir() else path
    require_trust(card, state, trust, "builds the classes that the file names")
    from diep.pretrained import load_potential

    return DIEPAdapter(card, load_potential(state.parent), device)
