"""Comparisons of matrices in memory against NumPy and scikit-matter, in any order of rows, and beyond the limits."""

from typing import Any

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp import metrics
from latentcmp.comparison import from_matrices
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.measures.registry import MEASURES
from tests.measures.fold_cases import FOLDS, blocks, local_row_squares, matrices, row_squares

N = 240
GROUPS = [f"g{row // 10}" for row in range(N)]


def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(N, 8))
    x = latent @ rng.normal(size=(8, 6))
    y = np.tanh(latent @ rng.normal(size=(8, 5))) + 0.2 * rng.normal(size=(N, 5))
    return {"x": x, "y": y.astype(np.float32), "z": latent[:, :3] ** 2}


def split() -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(5).permutation(N)
    return order[:160], order[160:]


def in_order(order: np.ndarray, groups: list[str] | None, **options: Any) -> Comparison:
    rows = {name: values[order] for name, values in features().items()}
    chosen = None if groups is None else [groups[row] for row in order]
    return latentcmp.compare_features(rows, groups=chosen, **options)


def assert_same(found: Comparison, expected: Comparison, **tolerances: float) -> None:
    """All values, medians and intervals."""
    for ours, theirs in zip(found.atoms.tables, expected.atoms.tables, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, **tolerances, msg=theirs.measure)
    for ours, theirs in zip(found.atoms, expected.atoms, strict=True):
        numbers = [[(c.low, c.high, c.median, c.share) for row in of.summaries for c in row] for of in (ours, theirs)]
        torch.testing.assert_close(*map(torch.tensor, numbers), **tolerances, msg=theirs.measure)


def test_errors_are_those_of_rows_in_folds_of_groups() -> None:
    """A map of the rows of other groups for every fold, with the strength that folds among them choose."""
    rows = {name: values for name, values in matrices().items() if name != "b"}
    fold, groups = np.array(FOLDS.fold_of_block)[blocks()], np.repeat(np.arange(60), 10).tolist()
    found = latentcmp.compare_features(rows, groups=groups)
    x, y = rows["a"], rows["c"]
    squares = {
        "gfre": row_squares(x, y, fold, np.geomspace(1e-3, 0.9, 10), "ridge"),
        "lfre": local_row_squares(x, y, fold, np.geomspace(0.1, 0.9, 7), 8),
    }
    for measure, expected in squares.items():
        cell = getattr(found, measure).summaries[0][1]
        assert getattr(found, measure)["a", "c"] == cell.value == pytest.approx(expected.mean() ** 0.5, rel=1e-9)
        assert cell.median == pytest.approx(np.quantile(np.sqrt(expected), 0.5, method="lower"), rel=1e-9)
    assert (found.atoms.n_train, found.atoms.n_test, found.atoms.n_folds) == (480, 600, 5)
    assert found.manifest["folds"] == list(FOLDS.fold_of_block)


def test_strengths_are_those_given() -> None:
    rows = {name: values for name, values in matrices().items() if name != "b"}
    fold, groups = np.array(FOLDS.fold_of_block)[blocks()], np.repeat(np.arange(60), 10).tolist()
    grids = {"alphas": [1e-2, 0.3], "local_alphas": [0.5]}
    found = latentcmp.compare_features(rows, groups=groups, n_local_points=6, **grids)  # type: ignore[arg-type]
    x, y = rows["c"], rows["a"]
    expected = row_squares(x, y, fold, np.array([1e-2, 0.3]), "ridge").mean() ** 0.5
    assert found.gfre["c", "a"] == pytest.approx(expected, rel=1e-9)
    expected = local_row_squares(x, y, fold, np.array([0.5]), 6).mean() ** 0.5
    assert found.lfre["c", "a"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_the_order_of_rows_does_not_change_a_bit(groups: list[str] | None) -> None:
    expected = in_order(np.arange(N), groups, measures=["gfre", "gfrd", "lfre"])
    order = np.random.default_rng(6).permutation(N)
    found = in_order(order, groups, measures=["gfre", "gfrd", "lfre"])
    assert_same(found, expected, rtol=0, atol=0)
    cells = [of.gfre.summaries[0][1].culprit for of in (found, expected)]
    assert cells[0 if groups else 1] == (cells[1] if groups else str(order[int(cells[0])]))


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_a_sample_does_not_depend_on_the_order_of_rows(groups: list[str] | None) -> None:
    options = {"local_train_rows": 150, "local_test_rows": 80, "measures": ["gfre", "lfre"]}
    expected = in_order(np.arange(N), groups, **options)
    found = in_order(np.random.default_rng(6).permutation(N), groups, **options)
    assert_same(found, expected, rtol=1e-12, atol=1e-12)


def test_equal_rows_are_in_one_fold() -> None:
    """Copies in other folds are the nearest rows, and give the targets themselves."""
    rng = np.random.default_rng(0)
    rows = {name: np.tile(rng.normal(size=(40, 4)), (6, 1)) for name in ("a", "b")}
    apart = latentcmp.compare_features(rows, groups=range(N), measures=["lfre"], n_local_points=3)
    assert apart.lfre["a", "b"] < 0.4
    together = latentcmp.compare_features(rows, measures=["lfre"], n_local_points=3)
    assert together.lfre["a", "b"] > 0.9


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_noise_of_features_moves_no_error(groups: list[str] | None) -> None:
    rows, rng = features(), np.random.default_rng(8)
    noisy = {name: x + 1e-7 * x.std(0) * rng.normal(size=x.shape) for name, x in rows.items()}
    found, expected = (latentcmp.compare_features(of, groups=groups) for of in (noisy, rows))
    for measure in ("gfre", "lfre"):
        assert (getattr(found, measure).values - getattr(expected, measure).values).abs().max() < 0.005


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_global_errors_of_folds_are_of_all_rows_where_a_sample_is_kept(groups: list[str] | None) -> None:
    whole = latentcmp.compare_features(features(), groups=groups)
    found = latentcmp.compare_features(features(), groups=groups, local_train_rows=150, local_test_rows=80)
    # The error of a matrix from itself, 1e-6, is the root of a difference of Gram matrices, which rounds at 1e-16.
    torch.testing.assert_close(found.gfre.values, whole.gfre.values, rtol=1e-9, atol=1e-9)
    assert (found.lfre.values - whole.lfre.values).abs().max() > 1e-6  # those of the sample
    assert (found.atoms.n_train, found.atoms.n_test) == (whole.atoms.n_train, whole.atoms.n_test) == (192, 240)


@pytest.mark.parametrize("solver", ["cutoff", "ridge"])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_accumulated_rows_of_folds_give_the_same_values(groups: list[str] | None, solver: str) -> None:
    """The sample of the second comparison holds all rows: the two differ in rounding alone."""
    options = {"groups": groups, "measures": list(MEASURES), "solver": solver, "n_local_points": 12}
    direct = latentcmp.compare_features(features(), **options)  # type: ignore[arg-type]
    found = latentcmp.compare_features(features(), local_train_rows=N - 1, **options)  # type: ignore[arg-type]
    assert_same(found, direct, rtol=1e-9, atol=1e-9)


def test_options_that_do_not_go_together_are_named() -> None:
    rows = features()
    for split in ({"test_idx": [0, 1]}, {"train_idx": [0, 1]}, {"preset": "chorna2025"}):
        with pytest.raises(InputError, match="groups make folds; give them, or one split"):
            latentcmp.compare_features(rows, groups=GROUPS, **split)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 3 groups of rows, one to test and two to train on, got 2"):
        latentcmp.compare_features(rows, groups=["a", "b"] * (N // 2))
    with pytest.raises(InputError, match="at least 3 groups of rows, one to test and two to train on, got 1"):
        latentcmp.compare_features({"a": np.ones((5, 2)), "b": np.ones((5, 3))})
    with pytest.raises(InputError, match="preset must be 'chorna2025' or None, got 'paper'"):
        latentcmp.compare_features(rows, preset="paper")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="groups must hold one label a row, got 3 labels for 240 rows"):
        latentcmp.compare_features(rows, groups=["a", "b", "c"])


def test_global_errors_of_one_split_are_those_of_scikit_matter() -> None:
    oracle = pytest.importorskip("skmatter.metrics")
    rows, (train, test) = features(), split()
    x, y = rows["x"], rows["y"].astype(np.float64)
    cases: list[dict[str, Any]] = [{}, {"test_idx": test}, {"train_idx": train}, {"train_idx": train, "test_idx": test}]
    for given in cases:
        found = latentcmp.compare_features(rows, preset="chorna2025", measures=["gfre"], **given)
        complement = {"train_idx": np.setdiff1d(np.arange(N), test), "test_idx": np.setdiff1d(np.arange(N), train)}
        both = {name: given.get(name, complement[name]) for name in complement} if given else {}
        assert found.gfre["x", "y"] == pytest.approx(oracle.global_reconstruction_error(x, y, **both), rel=1e-9)
    without = latentcmp.compare_features(rows, test_idx=test, train_idx=train, measures=["gfre"])
    assert torch.equal(found.gfre.values, without.gfre.values)
    assert "folds" not in found.manifest


def test_errors_of_the_preset_are_those_of_the_metrics() -> None:
    rows = features()
    found = latentcmp.compare_features(rows, preset="chorna2025", measures=["gfrd", "lfre"], n_local_points=12)
    x, y = rows["x"], rows["y"].astype(np.float64)
    assert found.gfrd["x", "y"] == pytest.approx(float(metrics.global_reconstruction_distortion(x, y)), rel=1e-9)
    assert found.lfre["x", "y"] == pytest.approx(float(metrics.local_reconstruction_error(x, y, 12)), rel=1e-9)


@pytest.mark.parametrize("solver", ["cutoff", "ridge"])
def test_rows_beyond_the_limits_give_the_same_values(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both paths hold all rows here: they differ in rounding alone, about 1e-15 of the largest error."""
    rows, (train, test) = features(), split()
    options = {"test_idx": test, "train_idx": train, "measures": list(MEASURES), "solver": solver, "n_local_points": 12}
    direct = latentcmp.compare_features(rows, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(from_matrices, "fits", lambda *sizes: False)
    streamed = latentcmp.compare_features(rows, **options)  # type: ignore[arg-type]
    for expected, found in zip(direct.atoms.tables, streamed.atoms.tables, strict=True):
        torch.testing.assert_close(found.values, expected.values, rtol=1e-9, atol=1e-12, msg=expected.measure)
    for expected, found in zip(direct.atoms, streamed.atoms, strict=True):
        for source, target in ((0, 1), (2, 0)):
            if expected.summaries:
                one, other = expected.summaries[source][target], found.summaries[source][target]
                assert (one.low, one.high, one.median) == pytest.approx((other.low, other.high, other.median), rel=1e-9)
                assert one.culprit == other.culprit
    assert (streamed.atoms.n_train, streamed.atoms.n_test) == (direct.atoms.n_train, direct.atoms.n_test) == (160, 80)


def test_global_errors_are_of_all_rows_where_a_sample_is_kept() -> None:
    rows, (train, test) = features(), split()
    whole = latentcmp.compare_features(rows, test_idx=test, train_idx=train, measures=["gfre", "linear_cka"])
    options = {"local_train_rows": 100, "local_test_rows": 30}
    found = latentcmp.compare_features(
        rows, test_idx=test, train_idx=train, measures=["gfre", "linear_cka", "lfre"], **options
    )
    torch.testing.assert_close(found.gfre.values, whole.gfre.values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.atoms.linear_cka.values, whole.atoms.linear_cka.values, rtol=1e-9, atol=1e-12)
    assert found.gfre.summaries[0][1].value == found.gfre["x", "y"]
    assert found.atoms.n_test == 80


def test_labels_of_groups_name_the_structures() -> None:
    rows = features()
    groups = [f"s{row // 6}" for row in range(N)]
    found = latentcmp.compare_features(rows, groups=groups, measures=["gfre"])
    assert {cell.culprit for row in found.gfre.summaries for cell in row} <= set(groups)
