"""What is particular to CHGNet: its cutoffs, and what it prints."""

import builtins
import importlib
import shutil
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

import latentcmp
from latentcmp.errors import InputError
from latentcmp.models.checkpoint import package_folder
from latentcmp.models.registry import cards, load
from latentcmp.systems.builtin import builtin_systems


@pytest.mark.parametrize("name", [name for name, card in cards().items() if card.isolation_cutoff])
def test_the_isolation_cutoff_of_a_card_is_the_cutoff_of_its_graphs(all_models: None, name: str) -> None:
    adapter = load(name)
    assert cards()[name].isolation_cutoff == adapter.module.graph_converter.atom_graph_cutoff
    assert adapter.card.isolation_cutoff == cards()[name].isolation_cutoff


@pytest.mark.parametrize(("name", "cutoff"), [("chgnet-0.2.0", 5.0), ("chgnet-0.3.0", 6.0)])
def test_atoms_beyond_the_cutoff_are_skipped_and_those_within_are_not(
    all_models: None, name: str, cutoff: float
) -> None:
    near = Atoms("He2", positions=[[0, 0, 0], [cutoff - 0.1, 0, 0]])
    far = Atoms("He2", positions=[[0, 0, 0], [cutoff + 0.1, 0, 0]])
    features = latentcmp.extract(name, [near, far], device="cpu")
    assert features.ids == ["structure:0"]
    assert f"without neighbours within {cutoff:g} A" in features.manifest["skipped"][0]["reason"]
    with pytest.raises(InputError, match="'structure:1' has an atom without neighbours"):
        latentcmp.extract(name, [near, far], device="cpu", on_unsupported="error")


def test_version_020_runs_on_the_sparse_built_in_structures_that_its_card_accepts(all_models: None) -> None:
    sparse = [system for system in builtin_systems() if isolated(system.atoms, 4.0)]
    features = latentcmp.extract("chgnet-0.2.0", sparse, device="cpu")
    beyond = [system.id for system in sparse if isolated(system.atoms, 5.0)]
    assert beyond == ["dcdft/Cs", "slab/bcc110/Cs"]
    assert [skip["id"] for skip in features.manifest["skipped"]] == beyond
    assert len(features.ids) == len(sparse) - 2 > 2


def isolated(atoms: Atoms, cutoff: float) -> bool:
    return len(set(neighbor_list("i", atoms, cutoff))) < len(atoms)


def test_loading_prints_nothing_and_leaves_print_as_it_is(all_models: None, capsys: pytest.CaptureFixture[str]) -> None:
    load("chgnet-0.3.0")
    assert capsys.readouterr().out == ""
    package = importlib.import_module("chgnet.model.model")
    assert getattr(package, "print", builtins.print) is builtins.print


def test_a_checkpoint_of_the_users_is_screened_by_its_own_cutoff(all_models: None, tmp_path: Path) -> None:
    card = cards()["chgnet-0.2.0"]
    shutil.copy(package_folder(card) / card.checkpoint, tmp_path / "mine.pth.tar")
    pairs = [Atoms("He2", positions=[[0, 0, 0], [distance, 0, 0]]) for distance in (4.9, 5.5)]
    stored = latentcmp.extract_to(tmp_path / "x", f"chgnet:{tmp_path / 'mine.pth.tar'}", pairs, device="cpu")
    assert stored.ids == ["structure:0"]
    expected = latentcmp.extract("chgnet-0.2.0", pairs, device="cpu")
    assert torch.equal(stored.to_features().values, expected.values)
