"""What pooling and a reconstruction loss add to a training step of SevenNet-0.

    latentcmp bench training --repeat 9

The step is forward, forces, a loss of both, and backward. The features of the last layer are pooled to cumulants of
order 1 to 4, and a `ReconstructionLoss` compares them (structures) or the features themselves (atoms) with those of
another model. Whole steps with and without are measured one after another in every round; so is the added part by
itself, forward and backward down to the features, whose share is the sharper figure: what lies below the features is
passed backward once in either case. One thread, CPU time of the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.settings import single_precision
from latentcmp.models.card import Adapter
from latentcmp.models.registry import load
from latentcmp.nn import CumulantPooling, ReconstructionLoss

from .finetuning.structures import family
from .run import measure, print_table

TARGET_WIDTH = 128
LOSSES: dict[str, Callable[[], ReconstructionLoss]] = {
    "pooling + loss, structures": lambda: ReconstructionLoss(pooling=CumulantPooling(order=4, root=True)),
    "loss, atoms": ReconstructionLoss,
    "running loss, atoms": lambda: ReconstructionLoss(momentum=0.1, widths=(64, TARGET_WIDTH)),
    "local loss, atoms": lambda: ReconstructionLoss(n_local_points=16),
}


class Step:
    """One training step on a fixed batch; with a loss, its gradients flow into the same backward."""

    def __init__(self, adapter: Adapter, n_systems: int = 8) -> None:
        from torch_geometric.data import Batch

        systems = family(1, 0, "step")[:n_systems]
        self.module = adapter.module
        self.last = adapter.module.get_submodule(adapter.point("last").path)
        self.batch = Batch.from_data_list([adapter.graph(system.atoms) for system in systems])
        self.ptr = torch.tensor([0, *map(len, systems)]).cumsum(0)
        self.target = torch.randn(int(self.ptr[-1]), TARGET_WIDTH, generator=torch.Generator().manual_seed(0))

    def __call__(self, loss: ReconstructionLoss | None = None) -> Tensor:
        """Forward, forces, losses, backward; the features of the last layer."""
        self.module.zero_grad()
        batch, kept = self.batch.clone(), []
        edges = batch["edge_vec"].requires_grad_()
        with self.last.register_forward_hook(lambda module, inputs, output: kept.append(output["x"])):
            energies = self.module(batch)["inferred_total_energy"]
        (pull,) = torch.autograd.grad(energies.sum(), edges, create_graph=True)
        forces = self.forces(pull, batch["edge_index"])
        total = energies.square().mean() + forces.square().mean()
        if loss is not None:
            total = total + self.added(loss, kept[0])
        total.backward()
        return kept[0].detach()

    def forces(self, pull: Tensor, edges: Tensor) -> Tensor:
        """Forces [n_atoms, 3] from the gradients of the energy by the edges' vectors."""
        nothing = pull.new_zeros(int(self.ptr[-1]), 3)
        return nothing.index_add(0, edges[0], pull).index_add(0, edges[1], -pull)

    def added(self, loss: ReconstructionLoss, features: Tensor) -> Tensor:
        return loss(features, self.target, self.ptr if loss.pooling is not None else None)

    def added_alone(self, loss: ReconstructionLoss, features: Tensor) -> Sequence[Tensor]:
        """The added part, forward and backward down to the features."""
        leaf = features.requires_grad_()
        return torch.autograd.grad(self.added(loss, leaf), leaf)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=9)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table: ms of the step, and for every loss ms with it, ms of it alone, and both as shares of the step.

    ``options.repeat`` is the number of rounds.
    """
    with single_precision():
        step = Step(load("sevennet-0", trust=True))
        features = step()
        calls: dict[str, Callable[[], object]] = {"step": step}
        for name, make in LOSSES.items():
            loss = make()
            calls[f"step with {name}"] = lambda loss=loss: step(loss)
            calls[name] = lambda loss=loss: step.added_alone(loss, features)
        found = measure(calls, options.repeat, "cpu")
    problem = f"SevenNet-0, {len(step.ptr) - 1} structures, {int(step.ptr[-1])} atoms"
    rows = [
        {"problem": problem, "name": name, "ms": seconds * 1e3, "% of the step": 100 * seconds / found["step"]}
        for name, seconds in found.items()
    ]
    print_table(rows)
    return rows
