"""Comparisons of matrices in memory against scikit-matter, and against the same rows streamed beyond the limits."""

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.comparison import from_matrices
from latentcmp.measures.registry import MEASURES

N = 240


def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(N, 8))
    x = latent @ rng.normal(size=(8, 6))
    y = np.tanh(latent @ rng.normal(size=(8, 5))) + 0.2 * rng.normal(size=(N, 5))
    return {"x": x, "y": y.astype(np.float32), "z": latent[:, :3] ** 2}


def split() -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(5).permutation(N)
    return order[:160], order[160:]


def test_global_errors_are_those_of_scikit_matter() -> None:
    oracle = pytest.importorskip("skmatter.metrics")
    rows, (train, test) = features(), split()
    found = latentcmp.compare_features(rows, test_idx=test, train_idx=train, measures=["gfre"])
    x, y = rows["x"], rows["y"].astype(np.float64)
    expected = oracle.global_reconstruction_error(x, y, train_idx=train, test_idx=test)
    assert found.gfre["x", "y"] == pytest.approx(expected, rel=1e-9)


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
