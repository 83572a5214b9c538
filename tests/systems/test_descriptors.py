"""Descriptors of atoms: against formulas written out, and under motions that must not change them."""

import itertools
import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from sklearn.preprocessing import OneHotEncoder

from latentcmp.errors import InputError
from latentcmp.systems.descriptors import N_COORDINATION, coordination, element_one_hot


def disordered() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((2, 1, 1))
    atoms.rattle(0.2, seed=3)
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=4.0)
    atoms.rattle(0.1, seed=1)
    return atoms


STRUCTURES = {"crystal": disordered(), "slab": slab(), "molecule without a cell": molecule("CH3CH2OH")}


def test_the_indicators_are_those_of_scikit_learn() -> None:
    numbers = np.array([8, 1, 1, 118, 0])
    expected = OneHotEncoder(categories=[np.arange(119)], sparse_output=False).fit_transform(numbers[:, None])
    np.testing.assert_array_equal(element_one_hot(numbers), expected)
    encoder = OneHotEncoder(categories=[[1, 8, 26]], sparse_output=False, handle_unknown="ignore")
    np.testing.assert_array_equal(element_one_hot(numbers, [1, 8, 26]), encoder.fit_transform(numbers[:, None]))
    assert element_one_hot(np.array([], dtype=int)).shape == (0, 119)


@pytest.mark.parametrize("numbers", [[119], [-1], [1.0], [[1]]])
def test_what_is_no_atomic_number_is_refused(numbers: list[int]) -> None:
    with pytest.raises(InputError, match="numbers must be a 1-D array of atomic numbers"):
        element_one_hot(np.array(numbers))
    with pytest.raises(InputError, match="elements must be"):
        element_one_hot(np.array([1]), numbers)
    with pytest.raises(InputError, match=r"distinct, got \[8, 8\]"):
        element_one_hot(np.array([8]), [8, 8])


def written_out(atoms: Atoms, i: int, pairs: list[tuple[int, float]]) -> list[float]:
    """The columns of one atom from its neighbours, term by term."""
    radii, charges, columns = covalent_radii[atoms.numbers], atoms.numbers, []
    for c in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0):
        terms = [(0.5 * (1 + math.cos(math.pi * d / 6)) * math.exp(-(((d - c) / 0.35) ** 2)), j) for j, d in pairs]
        columns += [sum(g for g, _ in terms)]
        columns += [sum(g * radii[j] for g, j in terms)]
        columns += [sum(g * charges[j] / 50 for g, j in terms)]
    for q in (1.1, 1.25, 1.5, 2.0):
        columns += [sum(1 / (1 + math.exp((d / (radii[i] + radii[j]) - q) * 20)) for j, d in pairs)]
    return columns


def pairs_of_a_loop(atoms: Atoms, i: int) -> list[tuple[int, float]]:
    images = [range(-4, 5) if periodic else (0,) for periodic in atoms.pbc]
    pairs = []
    for j in range(len(atoms)):
        for shift in itertools.product(*images):
            distance = float(np.linalg.norm(atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i]))
            if distance < 6.0 and (i != j or any(shift)):
                pairs.append((j, distance))
    return pairs


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_columns_are_those_of_a_loop_over_images(name: str) -> None:
    atoms = STRUCTURES[name]
    expected = [written_out(atoms, i, pairs_of_a_loop(atoms, i)) for i in range(len(atoms))]
    result = coordination(atoms)
    assert result.shape == (len(atoms), 37) == (len(atoms), N_COORDINATION)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-14)


def test_a_thin_cell_with_heavy_atoms_agrees_with_ases_neighbours() -> None:
    atoms = Atoms("CsI", cell=[[3.9, 0, 0], [1.3, 3.7, 0], [9.0, 0.4, 4.2]], scaled_positions=[[0, 0, 0], [0.5] * 3])
    atoms.pbc = True
    first, second, distances = neighbor_list("ijd", atoms, 6.0)
    expected = [
        written_out(atoms, i, list(zip(second[first == i], distances[first == i], strict=True))) for i in range(2)
    ]
    np.testing.assert_allclose(coordination(atoms), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", STRUCTURES)
def test_motions_change_nothing_and_permutations_permute(name: str) -> None:
    atoms = STRUCTURES[name]
    expected = coordination(atoms)
    moved = atoms.copy()
    moved.rotate(40.0, (1, 2, -1), rotate_cell=True)
    moved.translate((30.1, -7.3, 2.9))
    np.testing.assert_allclose(coordination(moved), expected, rtol=1e-9, atol=1e-12)
    order = np.random.default_rng(0).permutation(len(atoms))
    np.testing.assert_allclose(coordination(atoms[order]), expected[order], rtol=1e-12, atol=1e-14)
    periodic = tuple(2 if flag else 1 for flag in atoms.pbc)
    np.testing.assert_allclose(coordination(atoms.repeat(periodic))[: len(atoms)], expected, rtol=1e-9, atol=1e-12)


def test_isolated_atoms_have_zeros() -> None:
    far = Atoms("HHe", positions=[[0, 0, 0], [0, 0, 6.1]])
    assert not coordination(far).any()
    assert not coordination(Atoms("Cs", cell=[7, 7, 7], pbc=True)).any()
    assert coordination(Atoms()).shape == (0, 37)
