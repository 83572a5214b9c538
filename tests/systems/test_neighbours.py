"""The neighbour list against that of ASE, and against a loop over images."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list

from latentcmp.systems.neighbours import neighbour_pairs


def skewed() -> Atoms:
    """A thin, skewed cell with atoms outside it."""
    cell = [[4.0, 0, 0], [7.5, 2.2, 0], [-3.0, 1.1, 3.1]]
    positions = np.random.default_rng(0).normal(scale=9.0, size=(4, 3))
    return Atoms("SiOSiO", positions=positions, cell=cell, pbc=True)


def chain() -> Atoms:
    """Periodic along the second axis alone, the only one with a cell vector."""
    return Atoms("CO", positions=[[0, 0, 0], [30, 5, 1.2]], cell=[[0, 0, 0], [0, 2.5, 0], [0, 0, 0]], pbc=[0, 1, 0])


STRUCTURES = {
    "crystal of one atom": bulk("Cu", a=3.61),
    "skewed cell": skewed(),
    "slab": fcc111("Cu", (2, 2, 2), vacuum=3.0),
    "chain": chain(),
    "molecule without a cell": molecule("C6H6"),
    "one atom": Atoms("H"),
}


@pytest.mark.parametrize("cutoff", [2.0, 6.1])
@pytest.mark.parametrize("name", STRUCTURES)
def test_the_pairs_are_those_of_ase(name: str, cutoff: float) -> None:
    atoms = STRUCTURES[name]
    result = sorted(zip(*map(np.ndarray.tolist, neighbour_pairs(atoms, cutoff)), strict=True))
    expected = sorted(zip(*map(np.ndarray.tolist, neighbor_list("ijd", atoms, cutoff)), strict=True))
    assert [pair[:2] for pair in result] == [pair[:2] for pair in expected]
    np.testing.assert_allclose([pair[2] for pair in result], [pair[2] for pair in expected], rtol=1e-12)


def test_the_distances_are_those_of_a_loop_over_images() -> None:
    atoms = skewed()
    atoms.wrap()
    expected = []
    for i, j in itertools.product(range(4), repeat=2):
        for shift in itertools.product(range(-9, 10), repeat=3):
            distance = float(np.linalg.norm(atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i]))
            if distance < 5.0 and (i != j or any(shift)):
                expected.append((i, j, distance))
    first, second, distances = neighbour_pairs(atoms, 5.0)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(pair[:2] for pair in expected)
    np.testing.assert_allclose(np.sort(distances), np.sort([pair[2] for pair in expected]), rtol=1e-12)
