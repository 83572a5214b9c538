"""Structures in: files, lists, names, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import write

from latentcmp.errors import InputError
from latentcmp.systems.read import read_systems
from latentcmp.systems.system import System, in_canonical_order, set_hash


@pytest.fixture
def frames() -> list[Atoms]:
    return [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64), molecule("H2O")]


def test_frames_of_extended_xyz_keep_names_groups_and_subsets(tmp_path: Path, frames: list[Atoms]) -> None:
    frames[0].info = {"id": "copper", "group": "metals", "subset": "bulk"}
    write(tmp_path / "mixed.extxyz", frames)
    systems = read_systems(tmp_path / "mixed.extxyz")
    assert [system.id for system in systems] == ["copper", "mixed.extxyz:1", "mixed.extxyz:2"]
    assert (systems[0].group, systems[0].subset) == ("metals", "bulk")
    assert len({system.group for system in systems}) == 3
    np.testing.assert_allclose(systems[1].atoms.positions, frames[1].positions, atol=1e-7)


def test_several_files_databases_and_atoms_in_hand(tmp_path: Path, frames: list[Atoms]) -> None:
    write(tmp_path / "a.xyz", frames[:1])
    with connect(tmp_path / "b.db") as database:
        for atoms in frames:
            database.write(atoms)
    systems = read_systems([tmp_path / "a.xyz", str(tmp_path / "b.db")])
    assert [system.id for system in systems] == ["a.xyz:0", "b.db:0", "b.db:1", "b.db:2"]
    assert [len(system) for system in read_systems(frames)] == [1, 2, 3]
    assert [system.id for system in read_systems(frames[0])] == ["structure:0"]


def test_files_of_one_name_go_by_their_paths(tmp_path: Path, frames: list[Atoms]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "POSCAR", frames[1])
    systems = read_systems([tmp_path / "a" / "POSCAR", tmp_path / "b" / "POSCAR"])
    assert [system.id for system in systems] == [f"{tmp_path}/{folder}/POSCAR:0" for folder in ("a", "b")]


def test_key_value_pairs_and_data_of_a_database_are_info(tmp_path: Path, frames: list[Atoms]) -> None:
    with connect(tmp_path / "b.db") as database:
        database.write(frames[0], group="metals", subset="bulk")
        database.write(frames[1], data={"group": "salts"})
    systems = read_systems(tmp_path / "b.db")
    assert [(system.group, system.subset) for system in systems] == [("metals", "bulk"), ("salts", "")]


def test_names_of_any_kind_are_read(tmp_path: Path, frames: list[Atoms]) -> None:
    for name in ("a@b.extxyz", "x[a].extxyz", "文 $x$.extxyz"):
        write(tmp_path / name, frames, format="extxyz")
        assert read_systems(tmp_path / name)[0].id == f"{name}:0"


def test_without_a_group_a_structure_shares_one_with_identical_ones_alone(frames: list[Atoms]) -> None:
    given = [*frames, frames[1].copy()]
    for name, atoms in zip("dcba", given, strict=True):
        atoms.info = {"id": name}
    assert [system.group for system in read_systems(given)] == ["d", "a", "b", "a"]
    given[1].info["group"] = "salts"
    assert [system.group for system in read_systems(given)] == ["d", "salts", "b", "a"]


def test_a_rounding_of_positions_moves_no_structure_and_no_group(frames: list[Atoms]) -> None:
    rounded = [atoms.copy() for atoms in frames]
    for atoms in rounded:
        atoms.rattle(1e-8, seed=1)
    one, other = read_systems(frames), read_systems(rounded)
    assert [(s.id, s.group) for s in in_canonical_order(one)] == [(s.id, s.group) for s in in_canonical_order(other)]
    assert set_hash(one) != set_hash(other)


def test_the_canonical_order_is_that_of_ids_and_content_breaks_ties() -> None:
    twins = [System("b", molecule(name), "") for name in ("H2O", "NH3", "CO")]
    first = System("a", molecule("CO2"), "")
    result = in_canonical_order([*twins, first])
    assert result[0] is first
    assert [system.digest for system in result[1:]] == sorted(system.digest for system in twins)
    assert in_canonical_order([first, *twins[::-1]]) == result


def test_bad_files_are_named(tmp_path: Path, frames: list[Atoms]) -> None:
    (tmp_path / "empty.extxyz").touch()
    (tmp_path / "noise.extxyz").write_bytes(bytes(range(256)))
    write(tmp_path / "whole.extxyz", frames)
    text = (tmp_path / "whole.extxyz").read_text()
    (tmp_path / "cut.extxyz").write_text(text[: int(len(text) * 0.8)])
    for name, message in (
        ("missing.extxyz", "missing.extxyz does not exist"),
        ("empty.extxyz", r"empty.extxyz (contains no structures|cannot be read)"),
        ("noise.extxyz", "noise.extxyz cannot be read"),
        ("cut.extxyz", "cut.extxyz cannot be read"),
        (".", "is not a file"),
    ):
        with pytest.raises(InputError, match=message):
            read_systems(tmp_path / name)


def test_names_must_be_unique_and_something_must_be_given(tmp_path: Path, frames: list[Atoms]) -> None:
    write(tmp_path / "a.xyz", frames)
    with pytest.raises(InputError, match=r"'a\.xyz:0' occurs twice"):
        read_systems([tmp_path / "a.xyz", tmp_path / "a.xyz"])
    with pytest.raises(InputError, match="no structures were given"):
        read_systems([])
    with pytest.raises(InputError, match="got int at position 1"):
        read_systems([frames[0], 3])  # type: ignore[list-item]
