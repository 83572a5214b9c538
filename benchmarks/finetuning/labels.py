"""Energies and forces of a labelling model, moved onto the energy zero of the pretrained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp.models.card import Adapter
from latentcmp.systems.system import System


@dataclass(frozen=True)
class Labelled:
    """A structure as the pretrained model wants it, with labels: energy in eV/atom, forces [n, 3] in eV/Angstrom."""

    graph: Any
    energy: Tensor
    forces: Tensor


def label(systems: Sequence[System], pretrained: Adapter, labeller: Adapter) -> list[Labelled]:
    """Label every structure by DIEP, energies on its own zero."""
    found = []
    for system in systems:
        graph, lattice, _ = labeller.graph(system.atoms)
        energy, forces, *_ = labeller.potential(graph, lattice.reshape(1, 3, 3), None)  # type: ignore[attr-defined]
        found.append(
            Labelled(pretrained.graph(system.atoms), energy.detach().reshape(()) / len(system), forces.detach())
        )
    return found


def element_shift(systems: Sequence[System], labelled: Sequence[Labelled], pretrained: Adapter) -> dict[int, float]:
    """The energy of each element, in eV, that takes the pretrained model's zero to the labels': least squares.

    Different functionals and pseudopotentials count the energies of free atoms differently, by eV: that is no chemistry
    to be learnt. Charges balance in every crystal of the family, which leaves one combination of the elements without
    effect: of all solutions the smallest is taken.
    """
    with torch.no_grad():
        before = torch.cat([pretrained.energies([example.graph]) for example in labelled])
    difference = torch.stack([example.energy for example in labelled]) - before
    numbers = sorted({int(number) for system in systems for number in system.atoms.numbers})
    shares = np.array([[(system.atoms.numbers == z).mean() for z in numbers] for system in systems])
    solution = np.linalg.lstsq(shares, difference.double().numpy(), rcond=1e-6)[0]
    return dict(zip(numbers, solution.tolist(), strict=True))


def shifted(systems: Sequence[System], labelled: Sequence[Labelled], shift: dict[int, float]) -> list[Labelled]:
    """The labels with the energies of the elements taken off."""
    return [
        Labelled(example.graph, example.energy - sum(shift[int(z)] for z in s.atoms.numbers) / len(s), example.forces)
        for s, example in zip(systems, labelled, strict=True)
    ]
