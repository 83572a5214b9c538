"""Comparisons end to end, on real models: the numbers, the science behind them, the files."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from rich.console import Console

import latentcmp
from latentcmp import metrics
from latentcmp.cli.tables import show_comparison
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.report import outputs
from latentcmp.report.files import check_writable
from latentcmp.systems.group_folds import GroupFolds, block_of_groups
from latentcmp.systems.read import read_systems
from latentcmp.systems.split import split_into_folds
from latentcmp.systems.system import in_canonical_order
from tests.measures.fold_cases import local_row_squares, row_squares

WRITTEN = {
    "baselines.csv",
    "baselines_structures.csv",
    "elements.csv",
    "heatmap_structures.png",
    "learning_curve.png",
    "gfre.csv",
    "lfre.csv",
    "gfre_structures.csv",
    "lfre_structures.csv",
    "heatmap.png",
    "cumulants.png",
    "results.json",
}


@pytest.fixture(scope="module")
def named(structures: list[Atoms]) -> list[Atoms]:
    named = [atoms.copy() for atoms in structures]
    for number, atoms in enumerate(named):
        atoms.info = {"id": f"s{number}", "subset": "crystal" if atoms.info.get("x") else "molecule"}
    return named


@pytest.fixture(scope="module")
def comparison(all_models: None, named: list[Atoms]) -> Comparison:
    return latentcmp.compare(["sevennet-0", "sevennet-0@backbone", "chgnet-r2scan"], named, order=3)


def test_entries_are_those_of_rows_in_folds_of_groups(comparison: Comparison, named: list[Atoms]) -> None:
    systems = in_canonical_order(read_systems(named))
    x, y = (latentcmp.extract(name, systems).values.double().numpy() for name in ("chgnet-r2scan", "sevennet-0"))
    split = split_into_folds(systems)
    assert split.folds is not None
    fold = np.array(split.folds.fold_of_block)[split.atoms]
    expected = row_squares(x, y, fold, np.geomspace(1e-3, 0.9, 10), "ridge").mean() ** 0.5
    assert comparison.gfre["chgnet-r2scan", "sevennet-0"] == pytest.approx(expected, rel=1e-6)
    expected = local_row_squares(x, y, fold, np.geomspace(0.1, 0.9, 7), 64).mean() ** 0.5
    assert comparison.lfre["chgnet-r2scan", "sevennet-0"] == pytest.approx(expected, rel=1e-6)
    assert (comparison.atoms.n_test, comparison.atoms.n_folds) == (len(x), 5)


def test_a_model_reconstructs_itself_and_a_linear_layer_comes_from_what_it_maps(
    comparison: Comparison, named: list[Atoms]
) -> None:
    """Up to what ridge shrinks in the default, and to rounding with the truncated SVD of the preset."""
    assert (comparison.gfre.values.diagonal() < 1e-2).all()
    assert comparison.gfre["sevennet-0@backbone", "sevennet-0"] < 1e-2
    assert comparison.gfre["sevennet-0", "sevennet-0@backbone"] > 2e-2
    assert comparison.gfre["chgnet-r2scan", "sevennet-0"] > 2e-2
    models = ["sevennet-0", "sevennet-0@backbone"]
    exact = latentcmp.compare(models, named, order=1, measures=["gfre"], preset="chorna2025")
    assert (exact.gfre.values.diagonal() < 1e-6).all()
    assert exact.gfre["sevennet-0@backbone", "sevennet-0"] < 1e-6
    assert exact.gfre["sevennet-0", "sevennet-0@backbone"] > 1e-3


def test_the_order_of_structures_does_not_matter(all_models: None, named: list[Atoms]) -> None:
    models = ["chgnet-0.3.0", "chgnet-r2scan"]
    first = latentcmp.compare(models, named[:40], order=2)
    second = latentcmp.compare(models, named[:40][::-1], order=2)
    for measure in ("gfre", "lfre"):
        expected = getattr(first.atoms, measure).values
        torch.testing.assert_close(getattr(second.atoms, measure).values, expected, rtol=1e-9, atol=1e-9)
    assert first.manifest["structures"]["n_atoms"] == second.manifest["structures"]["n_atoms"]


def test_names_of_any_kind_are_drawn_and_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrices = {r"$\foo$": rng.normal(size=(60, 4)), "文 [red]": rng.normal(size=(60, 3)), 3: rng.normal(size=(60, 3))}
    found = latentcmp.compare_features(matrices, measures=["gfre", "gfrd"])  # type: ignore[arg-type]
    found.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["models"] == [r"$\foo$", "文 [red]", "3"]
    console = Console(file=StringIO(), width=60, markup=False)
    show_comparison(console, found)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "文 [red]" in text
    assert f"{found.gfre['3', '文 [red]']:.3f}" in text


def test_files_of_an_earlier_comparison_do_not_stay(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    matrix = np.random.default_rng(0).normal(size=(60, 4))
    latentcmp.compare_features({"a": matrix, "b": matrix**2}, measures=["gfrd"]).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gfrd.csv", "heatmap.png", "results.json"}


def test_permuted_rows_are_no_better_than_the_mean() -> None:
    rng = np.random.default_rng(5)
    features = torch.from_numpy(np.tanh(rng.normal(size=(6000, 8)) @ rng.normal(size=(8, 24))))
    shuffled = features[torch.from_numpy(rng.permutation(6000))]
    found = latentcmp.compare_features({"a": features, "b": shuffled}, measures=["gfre"])
    assert found.gfre["a", "b"] == pytest.approx(1.0, abs=0.05)
    assert found.gfre["b", "a"] == pytest.approx(1.0, abs=0.05)


def test_permuted_real_features_are_no_better_than_the_mean(sevennet_features: Features) -> None:
    order = torch.randperm(len(sevennet_features), generator=torch.Generator().manual_seed(0))
    values = sevennet_features.values
    found = latentcmp.compare_features({"a": values, "b": values[order]}, measures=["gfre"])
    assert found.gfre["a", "b"] == pytest.approx(1.0, abs=0.05)


def test_orders_hold_what_lower_orders_lack(comparison: Comparison) -> None:
    for matrix in comparison.orders.values():
        errors = matrix.values
        assert matrix.names == ("1", "2", "3")
        for source in range(2):
            assert errors[source, : source + 1].max() < errors[source, source + 1 :].min()
        assert errors.tril().max() < 0.1


def test_the_dictionary_has_every_number_and_where_it_comes_from(comparison: Comparison) -> None:
    content = json.loads(json.dumps(comparison.to_dict()))
    assert content["models"] == ["sevennet-0", "sevennet-0@backbone", "chgnet-r2scan"]
    for level in ("atoms", "structures"):
        for measure in ("gfre", "lfre"):
            assert np.shape(content[level][measure]) == (3, 3)
            cell = content[level]["details"][measure][0][2]
            assert cell["low"] <= cell["value"] <= cell["high"] * (1 + 1e-9)
            assert 0 < cell["share"] <= 1
    assert content["atoms"]["n_local_points"][0] == [64, 64, 64]
    assert set(content["orders"]) == set(content["models"])
    manifest = content["manifest"]
    assert len(manifest["models"]["chgnet-r2scan"]["sha256"]) == 64
    assert manifest["models"]["sevennet-0@backbone"]["module"] == "4_equivariant_gate"
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["split"].startswith("5 folds by group (100 groups of 100 structures)")
    assert manifest["solver"] == "ridge"
    assert manifest["alphas"][0] == pytest.approx(1e-3)
    assert manifest["local_alphas"][0] == pytest.approx(0.1)
    assert content["atoms"]["n_folds"] == content["structures"]["n_folds"] == 5
    assert {"inference", "graphs", "errors between atoms"} <= set(content["timing"])


def test_saved_files_hold_the_numbers_and_the_pictures(comparison: Comparison, tmp_path: Path) -> None:
    written = comparison.save(tmp_path / "new" / "results")
    assert {path.name for path in written} == WRITTEN == {path.name for path in written[0].parent.iterdir()}
    assert json.loads((tmp_path / "new/results/results.json").read_text()) == json.loads(
        json.dumps(comparison.to_dict())
    )
    table = np.genfromtxt(tmp_path / "new/results/gfre.csv", delimiter=",", skip_header=1)[:, 1:]
    np.testing.assert_allclose(table, comparison.gfre.values.numpy(), rtol=1e-12)
    image = pytest.importorskip("matplotlib.image").imread(tmp_path / "new/results/heatmap.png")
    assert image.shape[0] > 400
    assert image[..., :3].std() > 0.1


def test_a_failure_while_writing_leaves_earlier_results_whole(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison.save(tmp_path)
    (tmp_path / "mine.txt").write_text("kept")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(outputs, "OUTPUTS", (*outputs.OUTPUTS, outputs.Output("last.txt", fails)))
    with pytest.raises(InputError, match="cannot be written: disk full"):
        comparison.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_directory_that_cannot_be_written_is_found_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        check_writable(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "below")
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def _heed_interrupts() -> None:
    """A process that a shell starts in the background ignores them, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_leaves_earlier_results_whole(
    all_models: None, comparison: Comparison, tmp_path: Path, structures: list[Atoms]
) -> None:
    results = tmp_path / "results"
    comparison.save(results)
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    write(tmp_path / "many.extxyz", structures * 8)
    arguments = ["compare", "chgnet-r2scan", "chgnet-0.3.0", "-s", str(tmp_path / "many.extxyz"), "-o", str(results)]
    command = [sys.executable, "-m", "latentcmp", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": os.environ | {"PYTHONUNBUFFERED": "1"}}
    with subprocess.Popen(command, text=True, cwd=tmp_path, preexec_fn=_heed_interrupts, **pipes) as run:
        while "trust" not in run.stdout.readline():  # the last line of the settings: now the work begins
            pass
        time.sleep(2)
        run.send_signal(signal.SIGINT)
        _, messages = run.communicate(timeout=240)
    assert run.returncode == 130, messages
    assert "Interrupted" in messages
    assert "Traceback" not in messages
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before


def test_a_matrix_shows_itself_everywhere(comparison: Comparison) -> None:
    frame = comparison.gfre.to_pandas()
    assert list(frame.columns) == list(frame.index) == list(comparison.models)
    assert frame.loc["sevennet-0", "chgnet-r2scan"] == comparison.gfre["sevennet-0", "chgnet-r2scan"]
    html = comparison._repr_html_()
    assert html.count("<td") == 18
    assert f"{comparison.lfre['sevennet-0', 'chgnet-r2scan']:.3f}" in html
    assert f"{comparison.gfre['sevennet-0', 'chgnet-r2scan']:.3f}" in repr(comparison)
    assert len(comparison.plot().axes) == 3
    with pytest.raises(AttributeError, match="'gfrd' was not computed; this level has gfre, lfre"):
        comparison.atoms.gfrd  # noqa: B018


def test_the_papers_preset_brings_its_order_and_split(all_models: None, structures: list[Atoms]) -> None:
    found = latentcmp.compare(["chgnet-0.3.0", "chgnet-0.2.0"], structures, preset="chorna2025")
    assert found.orders["chgnet-0.3.0"].values.shape == (8, 8)
    assert "stratified by subset" in found.manifest["split"]
    assert found.atoms.n_test == sum(map(len, structures)) // 2
    assert found.structures is not None
    n_train = len(structures) - len(structures) // 2
    assert found.structures.n_local_points == [[n_train, n_train], [n_train, n_train]]


def test_features_in_memory_of_one_split_have_the_errors_of_the_metrics(
    chgnet_features: Features, sevennet_features: Features
) -> None:
    features = {"chgnet": chgnet_features.values, "sevennet": sevennet_features.values.numpy().astype(np.float64)}
    test = np.repeat(np.arange(len(chgnet_features.ids)) % 3 == 0, np.diff(chgnet_features.ptr.numpy()))
    measures = ("gfre", "gfrd", "lfre")
    found = latentcmp.compare_features(features, test_idx=test, measures=measures, n_local_points=20)
    for measure, function, extra in (
        ("gfre", metrics.global_reconstruction_error, ()),
        ("gfrd", metrics.global_reconstruction_distortion, ()),
        ("lfre", metrics.local_reconstruction_error, (20,)),
    ):
        expected = function(features["chgnet"].numpy(), features["sevennet"], *extra, test_idx=test)
        assert getattr(found, measure)["chgnet", "sevennet"] == pytest.approx(expected, rel=1e-9)
    assert found.structures is None


def test_features_in_memory_in_folds_of_groups(chgnet_features: Features, sevennet_features: Features) -> None:
    features = {"chgnet": chgnet_features.values, "sevennet": sevennet_features.values}
    groups = np.repeat(np.arange(len(chgnet_features.ids)) // 2, np.diff(chgnet_features.ptr.numpy()))
    found = latentcmp.compare_features(features, groups=groups, n_local_points=10)
    folds = GroupFolds.of(50)
    fold = np.array(folds.fold_of_block)[block_of_groups(groups.tolist(), folds.n_blocks)]
    x, y = (values.double().numpy() for values in features.values())
    expected = row_squares(x, y, fold, np.geomspace(1e-3, 0.9, 10), "ridge").mean() ** 0.5
    assert found.gfre["chgnet", "sevennet"] == pytest.approx(expected, rel=1e-9)
    expected = local_row_squares(x, y, fold, np.geomspace(0.1, 0.9, 7), 10).mean() ** 0.5
    assert found.lfre["chgnet", "sevennet"] == pytest.approx(expected, rel=1e-9)
