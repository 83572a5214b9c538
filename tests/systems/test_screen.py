"""What every model can take, and the boxes for those that need three cell vectors."""

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list

from latentcmp.errors import InputError
from latentcmp.systems.read import read_systems
from latentcmp.systems.screen import BOX_GAP, in_box, problem, screen


@dataclass(frozen=True)
class Limits:
    name: str = "model"
    elements: frozenset[int] = frozenset(range(1, 84))
    needs_cell: bool = False
    isolation_cutoff: float | None = None


def nan_position() -> Atoms:
    atoms = bulk("Cu").repeat(2)
    atoms.positions[3, 1] = np.nan
    return atoms


def across_the_boundary() -> Atoms:
    return Atoms("Cu2", scaled_positions=[[0.0, 0.5, 0.5], [0.999, 0.5, 0.5]], cell=[5, 5, 5], pbc=True)


PROBLEMS = {
    "empty": (Atoms(), "no atoms"),
    "nan": (nan_position(), "NaN"),
    "coincident": (Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]]), "0 and 1 are 0.010 A apart"),
    "coincident over the boundary": (across_the_boundary(), "coincident"),
    "its own image": (bulk("Cu", "fcc", a=0.5), "its own periodic image"),
    "no cell to speak of": (bulk("Cu", "fcc", a=1e-8), "its own periodic image"),
    "flat cell": (Atoms("Cu", cell=[3, 3, 0], pbc=True), "cell vector is zero"),
    "dummy atom": (Atoms("X"), "unknown element"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_unfit_structures_say_why(name: str) -> None:
    atoms, message = PROBLEMS[name]
    assert message in (problem(atoms) or "")


@pytest.mark.parametrize(
    "atoms", [bulk("Cu"), molecule("C6H6"), fcc111("Cu", (2, 2, 2)), Atoms("H2", [[0, 0, 0], [0, 0, 0.6]])]
)
def test_fit_structures_pass(atoms: Atoms) -> None:
    assert problem(atoms) is None


def test_unfit_ones_are_skipped_for_all_models_and_listed() -> None:
    systems = read_systems([bulk("Cu"), bulk("Po", "sc", a=3.35), nan_position(), molecule("H2O")])
    found = screen(systems, [Limits("first"), Limits("second", needs_cell=True)])
    assert [system.id for system in found.systems] == ["structure:0", "structure:3"]
    assert [skip.id for skip in found.skipped] == ["structure:1", "structure:2"]
    assert "Po, unknown to first" in found.skipped[0].reason
    assert found.boxed == ["structure:3"]
    assert found.single_atoms == ["structure:0"]


def test_error_instead_of_skip_and_nothing_left() -> None:
    systems = read_systems([nan_position()])
    with pytest.raises(InputError, match="'structure:0' has a NaN"):
        screen(systems, [Limits()], "error")
    with pytest.raises(InputError, match="no structure is left"):
        screen(systems, [Limits()])


def test_isolated_atoms_are_found_only_where_a_model_refuses_them() -> None:
    far = Atoms("He2", positions=[[0, 0, 0], [7, 0, 0]])
    near = Atoms("He2", positions=[[0, 0, 0], [5, 0, 0]])
    lonely = Atoms("He", cell=[12, 12, 12], pbc=True)
    systems = read_systems([far, near, lonely, bulk("Cu")])
    strict = screen(systems, [Limits(isolation_cutoff=6.0)])
    assert [skip.id for skip in strict.skipped] == ["structure:0", "structure:2"]
    assert not screen(systems, [Limits()]).skipped


def slab(vacuum: float | None) -> Atoms:
    return fcc111("Cu", (2, 2, 2), vacuum=vacuum)


@pytest.mark.parametrize("atoms", [molecule("C6H6"), slab(None), slab(3.0), Atoms("HHe", [[0, 0, 0], [0, 0, 30]])])
def test_a_box_changes_no_neighbourhood(atoms: Atoms) -> None:
    boxed = in_box(atoms)
    assert boxed.pbc.all()
    assert abs(boxed.cell.volume) > 0
    for found, expected in zip(
        neighbor_list("ijd", boxed, BOX_GAP - 0.1), neighbor_list("ijd", atoms, BOX_GAP - 0.1), strict=True
    ):
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-9)


def test_a_periodic_structure_is_left_alone() -> None:
    atoms = bulk("Cu")
    assert in_box(atoms) is atoms
