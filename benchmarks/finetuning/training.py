"""Where the runs begin, and the one training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp.models.card import Adapter

from .features import Anchor, features_of
from .labels import Labelled

RUNS = ("all weights", "readout only", "anchored", "from scratch", "from scratch, longer")


def prepared(name: str, pretrained: Adapter, seed: int) -> Adapter:
    """The model that a run begins with; parameters that the run holds still require no gradient."""
    module = copy.deepcopy(pretrained.module)
    if name.startswith("from scratch"):
        torch.manual_seed(seed)
        module = type(module)(**module.model_args)  # type: ignore[operator]
    for key, parameter in module.named_parameters():
        free = key.startswith("mlp.") or name != "readout only"
        parameter.requires_grad_(free and not key.startswith("composition_model."))
    return type(pretrained)(pretrained.card, module, pretrained.device)


@dataclass(frozen=True)
class Settings:
    """Of the training: optimiser steps, structures a batch, learning rate, seed of the order and of random weights."""

    steps: int = 60
    batch: int = 4
    rate: float = 1e-3
    seed: int = 0


def train(
    adapter: Adapter,
    data: Sequence[Labelled],
    settings: Settings,
    anchor: Anchor | None,
    observe: Callable[[int], None],
) -> None:
    """Adam with a rate that falls to zero along a cosine; Huber losses of energies (eV/atom) and forces, equal weights.

    The order of the structures is a function of the seed: all runs see the same batches.
    """
    optimiser = torch.optim.Adam([p for p in adapter.module.parameters() if p.requires_grad], lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    observe(0)
    for step, positions in enumerate(batches(len(data), settings), 1):
        optimiser.zero_grad()
        with features_of(adapter) as features:
            loss = label_loss(adapter, [data[i] for i in positions])
        if anchor is not None:
            loss = loss + anchor(features, positions)
        loss.backward()
        optimiser.step()
        schedule.step()
        observe(step)


def batches(n: int, settings: Settings) -> np.ndarray:
    """Positions [steps, batch] of structures 0..n - 1, all of them in turn, shuffled anew each time."""
    rng = np.random.default_rng(settings.seed)
    size = settings.steps * settings.batch
    turns = [rng.permutation(n) for _ in range(size // n + 1)]
    return np.concatenate(turns)[:size].reshape(settings.steps, settings.batch)


def label_loss(adapter: Adapter, batch: Sequence[Labelled]) -> Tensor:
    """Huber losses of energies in eV/atom and of forces in eV/Angstrom, summed."""
    huber = torch.nn.HuberLoss(delta=0.1)
    energies, forces = predict(adapter, batch)
    wanted = torch.stack([example.energy for example in batch])
    return huber(energies, wanted) + huber(forces, torch.cat([example.forces for example in batch]))


def predict(adapter: Adapter, batch: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
    """Energies [n_systems] in eV/atom and forces [n_atoms, 3] in eV/Angstrom."""
    found = adapter.module([example.graph for example in batch], task="ef")
    return found["e"], torch.cat(found["f"])


def label_errors(adapter: Adapter, data: Sequence[Labelled]) -> dict[str, float]:
    """Mean absolute errors in meV/atom and meV/Angstrom."""
    energies, forces = [], []
    for start in range(0, len(data), 8):
        batch = data[start : start + 8]
        energy, force = predict(adapter, batch)
        energies.append((energy - torch.stack([example.energy for example in batch])).detach().abs())
        forces.append((force - torch.cat([example.forces for example in batch])).detach().abs().flatten())
    return {"energy": 1e3 * torch.cat(energies).mean().item(), "force": 1e3 * torch.cat(forces).mean().item()}
