"""Comparisons of stored features: the numbers of the models, and what a join leaves out or refuses."""

import shutil
from pathlib import Path

import pytest
import torch
from ase import Atoms

import latentcmp
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.features.open import open_features
from latentcmp.systems.folds import RowPart
from latentcmp.systems.read import read_systems
from latentcmp.systems.split import split_as_paper
from latentcmp.systems.system import in_canonical_order

MODELS = ("chgnet-0.3.0", "sevennet-0")


@pytest.fixture(scope="module")
def named(structures: list[Atoms]) -> list[Atoms]:
    """Forty structures with names, groups and subsets of their own."""
    found = [atoms.copy() for atoms in structures[-40:]]
    for number, atoms in enumerate(found):
        atoms.info = {"id": f"s{number}", "group": f"g{number // 2}", "subset": "ab"[number % 2]}
    return found


@pytest.fixture(scope="module")
def folder(all_models: None, named: list[Atoms], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of features of two models, in several shards."""
    folder = tmp_path_factory.mktemp("features")
    for model in MODELS:
        latentcmp.extract_to(folder / model, model, named, shard_atoms=100)
    return folder


@pytest.fixture(scope="module")
def direct(all_models: None, named: list[Atoms]) -> Comparison:
    return latentcmp.compare(list(MODELS), named, order=3)


def assert_same(found: Comparison, expected: Comparison) -> None:
    assert found.models == expected.models
    for level in ("atoms", "structures"):
        for matrix in getattr(expected, level):
            values = getattr(getattr(found, level), matrix.measure).values
            torch.testing.assert_close(values, matrix.values, rtol=1e-10, atol=1e-10)
    assert set(found.orders) == set(expected.orders)
    for name, matrix in expected.orders.items():
        torch.testing.assert_close(found.orders[name].values, matrix.values, rtol=1e-10, atol=1e-10)
    assert found.manifest["split"] == expected.manifest["split"]


def test_stored_features_give_the_numbers_of_the_models(folder: Path, direct: Comparison) -> None:
    found = latentcmp.compare([str(folder / model) for model in MODELS], order=3)
    assert_same(found, direct)
    assert found.manifest["structures"] == direct.manifest["structures"]
    assert found.manifest["models"][MODELS[0]]["sha256"] == direct.manifest["models"][MODELS[0]]["sha256"]


def test_stores_and_models_mix(folder: Path, direct: Comparison, named: list[Atoms]) -> None:
    found = latentcmp.compare([str(folder / MODELS[0]), MODELS[1]], named, order=3)
    assert_same(found, direct)


def test_npy_files_give_the_same_numbers(folder: Path, direct: Comparison, tmp_path: Path) -> None:
    for model in MODELS:
        open_features(folder / model).to_npy(tmp_path / model)
    found = latentcmp.compare([str(tmp_path / model) for model in MODELS], order=3)
    assert_same(found, direct)


def test_the_papers_split_needs_no_model(folder: Path, named: list[Atoms]) -> None:
    paths = [str(folder / model) for model in MODELS]
    found = latentcmp.compare(paths, preset="chorna2025", order=1)
    systems = in_canonical_order(read_systems(named))
    ids = [system.id for system in systems]
    matrices = {model: open_features(folder / model).rows(ids) for model in MODELS}
    expected = latentcmp.compare_features(matrices, split_as_paper(systems).atoms == RowPart.TEST)
    for measure in ("gfre", "lfre"):
        values = getattr(expected, measure).values
        # The oracle takes the errors of the rows at once; singular values down to 1e-9 of the largest are kept.
        torch.testing.assert_close(getattr(found, measure).values, values, rtol=1e-6, atol=1e-7)


def test_structures_that_one_side_lacks_are_left_out_and_listed(
    folder: Path, named: list[Atoms], tmp_path: Path
) -> None:
    bad = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]], info={"id": "clash"})
    latentcmp.extract_to(tmp_path / "few", MODELS[1], [*named[:30], bad])
    paths = [str(folder / MODELS[0]), str(tmp_path / "few")]
    found = latentcmp.compare(paths, order=2).manifest["structures"]
    reasons = {skip["id"]: skip["reason"] for skip in found["skipped"]}
    assert set(reasons) == {*(f"s{number}" for number in range(30, 40)), "clash"}
    assert reasons["s33"] == "is not in few"
    assert "coincident atoms" in reasons["clash"]
    assert found["n_systems"] == 30
    with pytest.raises(InputError, match=r"structure 's3\d' is not in few"):
        latentcmp.compare(paths, on_unsupported="error")


def test_two_directories_of_one_name_keep_apart(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / MODELS[0], tmp_path / MODELS[0])
    paths = [str(folder / MODELS[0]), str(tmp_path / MODELS[0])]
    found = latentcmp.compare(paths, order=1)
    assert found.models == tuple(paths)
    of_itself = found.gfre[paths[0], paths[0]]  # what ridge shrinks
    assert found.gfre[paths[0], paths[1]] == pytest.approx(of_itself, rel=1e-4)
    assert of_itself < 1e-2


def test_requests_that_make_no_sense_are_explained(folder: Path, named: list[Atoms], tmp_path: Path) -> None:
    path = str(folder / MODELS[0])
    with pytest.raises(InputError, match="given twice"):
        latentcmp.compare([path, path])
    with pytest.raises(InputError, match="no model to run on them"):
        latentcmp.compare([path], named)
    with pytest.raises(InputError, match="is no directory of features"):
        latentcmp.compare([path, str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="holds no features"):
        latentcmp.compare([path, str(tmp_path)])
