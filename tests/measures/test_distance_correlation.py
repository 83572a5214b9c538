"""Distance correlation against its formulas written out on full distance matrices."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures import distance_correlation as module
from latentcmp.measures.similarity import distance_correlation


def matrices(n: int = 70) -> dict[str, np.ndarray]:
    """Linearly related, non-linearly related and independent matrices; two rows are copies."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 4)) + 50
    x[7] = x[3]
    return {"x": x, "y": np.cos(x @ rng.normal(size=(4, 3))), "z": rng.normal(size=(n, 2))}


def double_centred(x: np.ndarray, y: np.ndarray) -> float:
    """Szekely, Rizzo & Bakirov (2007)."""
    a, b = (d - d.mean(0) - d.mean(1, keepdims=True) + d.mean() for d in (cdist(x, x), cdist(y, y)))
    return np.sqrt(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def u_centred(x: np.ndarray, y: np.ndarray) -> float:
    """Szekely & Rizzo (2014), the squared correlation."""
    n, centred = len(x), []
    for d in (cdist(x, x), cdist(y, y)):
        a = d - d.sum(0) / (n - 2) - d.sum(1, keepdims=True) / (n - 2) + d.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(a, 0)
        centred.append(a)
    a, b = centred
    return np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))


@pytest.mark.parametrize("block", [1 << 22, 70 * 9, 1])  # all rows at once, blocks that do not divide them, one row
@pytest.mark.parametrize(("unbiased", "expected"), [(False, double_centred), (True, u_centred)])
def test_pairs_agree_with_full_matrices(
    block: int, unbiased: bool, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", (block, block))
    rows = matrices()
    found = module.distance_correlations({name: torch.from_numpy(x) for name, x in rows.items()}, unbiased)
    values = [[expected(x, y) for y in rows.values()] for x in rows.values()]  # type: ignore[operator]
    np.testing.assert_allclose(found, values, rtol=1e-11, atol=1e-13)
    one = distance_correlation(rows["x"], rows["y"], unbiased=unbiased)
    assert isinstance(one, np.float64)
    assert one == pytest.approx(values[0][1], rel=1e-11)


def clusters(n: int = 60) -> np.ndarray:
    """Groups of copies and of rows that differ by 1e-7 of their length, and one far row."""
    rng = np.random.default_rng(4)
    x = 1e3 + rng.normal(size=(6, 5))[rng.integers(6, size=n)]
    x[: n // 2] += 1e-7 * rng.normal(size=(n // 2, 5))
    x[9] *= 3
    return x


@pytest.mark.parametrize(("unbiased", "expected"), [(False, double_centred), (True, u_centred)])
def test_close_rows_keep_their_digits(unbiased: bool, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAIRS", 7)
    x, y = clusters(), matrices(60)["y"]
    found = distance_correlation(x, y, unbiased=unbiased)
    assert found == pytest.approx(expected(x, y), rel=1e-11)  # type: ignore[operator]


def test_the_number_of_cores_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", (200, 200))
    rows = {name: torch.from_numpy(x) for name, x in matrices().items()}
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        found.append(module.distance_correlations(rows))
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.slow
def test_it_is_that_of_dcor() -> None:
    dcor = pytest.importorskip("dcor")
    for x, y in ((matrices()["x"], matrices()["y"]), (clusters(70), matrices()["z"])):
        expected = dcor.distance_correlation(x, y), dcor.u_distance_correlation_sqr(x, y)
        assert distance_correlation(x, y) == pytest.approx(expected[0], rel=1e-10)
        assert distance_correlation(x, y, unbiased=True) == pytest.approx(expected[1], rel=1e-9)


def test_it_finds_dependence_that_cka_does_not() -> None:
    x = np.linspace(-1, 1, 101)[:, None]
    assert latentcmp.similarity.linear_cka(x, x**2) < 1e-12
    assert distance_correlation(x, x**2) > 0.4


def test_a_comparison_takes_the_test_rows() -> None:
    rows = matrices()
    test = np.arange(30)
    found = latentcmp.compare_features(rows, test_idx=test, measures=["distance_correlation"])
    expected = double_centred(rows["x"][test], rows["y"][test])
    assert found.atoms.distance_correlation["x", "y"] == pytest.approx(expected, rel=1e-10)
    assert found.atoms.distance_correlation["y", "x"] == pytest.approx(expected, rel=1e-10)


def test_bad_input_is_named() -> None:
    rows = matrices()
    with pytest.raises(InputError, match="Y is constant over the 70 rows"):
        distance_correlation(rows["x"], np.ones((70, 3)))
    with pytest.raises(InputError, match="same rows, got 70 and 69 rows"):
        distance_correlation(rows["x"], rows["y"][1:])
    with pytest.raises(InputError, match="at least 4 rows, got 3"):
        distance_correlation(rows["x"][:3], rows["y"][:3], unbiased=True)
