"""Similarities from joint statistics against scipy, scikit-learn and n x n kernels on the rows themselves."""

import doctest
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch

from latentcmp.errors import InputError
from latentcmp.measures import distance_correlation, similarity
from latentcmp.statistics.joint import JointStatistics

N_ROWS = 90
METHODS = ["qr", "gram"]


def features(smallest: float = 0.01) -> dict[str, np.ndarray]:
    """Related matrices of several widths, scales and means; "c" is rank-deficient."""
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(N_ROWS, 6))
    a = np.tanh(latent @ rng.normal(size=(6, 5))) * np.geomspace(1, smallest, 5)
    b = 100 * (latent @ rng.normal(size=(6, 8)) + rng.normal(size=(N_ROWS, 8))) + 300
    c = rng.normal(size=(N_ROWS, 3)) + latent[:, :3]
    return {"a": a, "b": b, "c": np.concatenate([c, c[:, :1] - 2 * c[:, 1:2]], axis=1)}


def parts() -> np.ndarray:
    return np.random.default_rng(2).integers(3, size=N_ROWS)


def statistics(method: str, rows: dict[str, np.ndarray] | None = None) -> JointStatistics:
    """The statistics of `features`, in two updates of which the first has an odd mean, merged the wrong way round."""
    rows, part = rows or features(), torch.from_numpy(parts())
    shards = []
    for cut in (slice(0, 7), slice(7, None)):
        shard = JointStatistics({name: x.shape[1] for name, x in rows.items()}, method)  # type: ignore[arg-type]
        shard.update({name: torch.from_numpy(x[cut]) for name, x in rows.items()}, part[cut])
        shards.append(shard)
    shards[1].merge(shards[0])
    return shards[1]


def of_pairs(measure: Callable[[np.ndarray, np.ndarray], float], part: str, centre: bool = True) -> np.ndarray:
    """A measure on the rows of all pairs, centred or as they are."""
    chosen = (parts() == 2) == (part == "test")
    rows = [x[chosen] - centre * x[chosen].mean(0) for x in features().values()]
    return np.array([[measure(x, y) for y in rows] for x in rows])


def biased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """From n x n kernels and the centring matrix."""
    centring = np.eye(len(x)) - 1 / len(x)
    kx, ky = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return np.sum(kx * ky) / np.sqrt(np.sum(kx * kx) * np.sum(ky * ky))


def unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. (2012) on kernels of n x n, their diagonals zeroed."""
    n, ones = len(x), np.ones(len(x))
    kx, ky = x @ x.T, y @ y.T
    np.fill_diagonal(kx, 0)
    np.fill_diagonal(ky, 0)
    sums = (ones @ kx @ ones) * (ones @ ky @ ones) / ((n - 1) * (n - 2))
    return (np.trace(kx @ ky) + sums - 2 / (n - 2) * (ones @ kx @ ky @ ones)) / (n * (n - 3))


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    return unbiased_hsic(x, y) / np.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))


def procrustes(x: np.ndarray, y: np.ndarray) -> float:
    wide = max(x.shape[1], y.shape[1])
    x, y = (np.pad(values, ((0, 0), (0, wide - values.shape[1]))) for values in (x, y))
    disparity = scipy.spatial.procrustes(x, y)[2]  # 1 - (nuclear norm)^2: the scale of y is fitted as well
    return np.sqrt(2 - 2 * np.sqrt(1 - min(disparity, 1)))


def canonical_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The mean cosine of the principal angles between column spaces."""
    x, y = (scipy.linalg.orth(values, rcond=1e-10) for values in (x, y))
    return np.cos(scipy.linalg.subspace_angles(x, y)).mean()


def leading(x: np.ndarray) -> np.ndarray:
    """Rows on the principal directions that hold 99 % of the variance."""
    from sklearn.decomposition import PCA

    return PCA(0.99, svd_solver="full").fit_transform(x)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("method", METHODS)
def test_cka_agrees_with_kernels(method: str, part: str) -> None:
    found = similarity.linear_cka(statistics(method), part=part)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, of_pairs(biased_cka, part, centre=False), rtol=1e-10)
    found = similarity.linear_cka(statistics(method), debiased=True, part=part)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, of_pairs(unbiased_cka, part, centre=False), rtol=1e-9, atol=1e-12)


def test_debiased_cka_of_unrelated_rows_is_about_zero_where_the_plain_one_is_not() -> None:
    rng = np.random.default_rng(3)
    found = statistics("qr", {name: rng.normal(size=(N_ROWS, 60)) for name in "ab"})
    assert similarity.linear_cka(found)[0, 1] > 0.4
    assert abs(similarity.linear_cka(found, debiased=True)[0, 1]) < 0.1


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("method", METHODS)
def test_procrustes_agrees_with_scipy(method: str, part: str) -> None:
    found = similarity.procrustes_distance(statistics(method), part=part)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, of_pairs(procrustes, part), rtol=1e-9, atol=1e-7)
    # The direction that "c" lacks is zero in an R factor, in a Gram matrix the root of its rounding, of either sign.
    assert found.diagonal().max() < {"qr": 1e-13, "gram": 1e-7}[method]


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("method", METHODS)
def test_cca_agrees_with_principal_angles(method: str, part: str) -> None:
    found = similarity.cca(statistics(method), part=part)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, of_pairs(canonical_correlation, part), rtol=1e-8)
    found = similarity.svcca(statistics(method), part=part)  # type: ignore[arg-type]
    expected = of_pairs(lambda x, y: canonical_correlation(leading(x), leading(y)), part)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_cca_agrees_with_scikit_learn() -> None:
    from sklearn.cross_decomposition import CCA

    rows = [features()[name][parts() != 2] for name in ("a", "b")]
    x, y = CCA(5, max_iter=10000, tol=1e-12).fit_transform(*rows)
    expected = np.mean([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(5)])
    assert float(similarity.cca(statistics("qr"))[0, 1]) == pytest.approx(expected, rel=1e-5)


def test_cca_cuts_directions_and_statistics_of_r_factors_see_small_ones() -> None:
    rows = {"a": features(smallest=1e-8)["a"], "b": features()["b"]}
    chosen = parts() != 2
    expected = canonical_correlation(*(x[chosen] - x[chosen].mean(0) for x in rows.values()))
    assert float(similarity.cca(statistics("qr", rows))[0, 1]) == pytest.approx(expected, rel=1e-6)
    cut = similarity.cca(statistics("qr", rows), cutoff=1e-3)[0, 1]
    assert abs(float(cut) - expected) > 1e-3


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("method", METHODS)
def test_effective_ranks_agree_with_eigenvalues_of_the_covariance(method: str, part: str) -> None:
    chosen = (parts() == 2) == (part == "test")
    entropies, ratios = [], []
    for x in features().values():
        values = np.linalg.eigvalsh(np.cov(x[chosen].T)).clip(min=1e-300)
        share = values / values.sum()
        entropies.append(np.exp(-(share * np.log(share)).sum()))
        ratios.append(np.trace(np.cov(x[chosen].T)) ** 2 / np.linalg.norm(np.cov(x[chosen].T)) ** 2)
    np.testing.assert_allclose(
        similarity.effective_rank(statistics(method), part=part),  # type: ignore[arg-type]
        entropies,
        rtol=1e-10,
    )
    found = similarity.effective_rank(statistics(method), kind="participation", part=part)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, ratios, rtol=1e-10)


FUNCTIONS: dict[str, tuple[Callable[..., object], dict[str, object], Callable[[np.ndarray, np.ndarray], float]]] = {
    "linear_cka": (similarity.linear_cka, {}, biased_cka),
    "debiased": (similarity.linear_cka, {"debiased": True}, unbiased_cka),
    "procrustes": (similarity.procrustes_distance, {}, procrustes),
    "cca": (similarity.cca, {}, canonical_correlation),
    "svcca": (similarity.svcca, {}, lambda x, y: canonical_correlation(leading(x), leading(y))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_matrices_give_a_scalar_of_their_kind(name: str) -> None:
    function, options, oracle = FUNCTIONS[name]
    x, y = features()["a"], features()["b"].astype(np.float32)
    centred = [rows.astype(np.float64) - rows.mean(0, dtype=np.float64) for rows in (x, y)]
    expected = oracle(*centred)
    found = function(x, y, **options)
    assert isinstance(found, np.float64)
    assert found == pytest.approx(expected, rel=1e-8)
    tensor = function(torch.from_numpy(x), torch.from_numpy(y), **options)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == ()
    assert float(tensor) == found


def test_one_matrix_gives_its_rank() -> None:
    x = features()["b"]
    values = np.linalg.eigvalsh(np.cov(x.T))
    share = values / values.sum()
    assert similarity.effective_rank(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-10)
    assert similarity.effective_rank(x, kind="participation") == pytest.approx(1 / (share**2).sum(), rel=1e-10)


@pytest.mark.parametrize("module", [similarity, distance_correlation])
def test_examples_give_what_they_print(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_matrices_that_do_not_fit_are_named() -> None:
    x, y = features()["a"], features()["b"]
    with pytest.raises(InputError, match="same rows, got 90 and 80 rows"):
        similarity.linear_cka(x, y[:80])
    with pytest.raises(InputError, match="give two matrices with the same rows, or joint statistics"):
        similarity.cca(x)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="give them alone, or two matrices"):
        similarity.svcca(statistics("qr"), y)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="Y is constant over the 90 rows"):
        similarity.procrustes_distance(x, np.full_like(y, 0.1))
    with pytest.raises(InputError, match="at least 2 rows, got 1"):
        similarity.effective_rank(x[:1])


def test_bad_input_is_named() -> None:
    empty = JointStatistics({"a": 2, "b": 3})
    with pytest.raises(InputError, match="at least 2 train rows, got 0"):
        similarity.linear_cka(empty)
    with pytest.raises(InputError, match="part must be train"):
        similarity.cca(statistics("qr"), part="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kind must be entropy or participation"):
        similarity.effective_rank(statistics("qr"), kind="rank")  # type: ignore[arg-type]
    for wrong in ({"cutoff": 1.0}, {"variance": 0.0}):
        with pytest.raises(InputError, match="cutoff must lie in"):
            similarity.svcca(statistics("qr"), **wrong)
    rows = features()
    with pytest.raises(InputError, match=r"b is constant over the \d+ test rows"):
        similarity.procrustes_distance(statistics("qr", {**rows, "b": np.full_like(rows["b"], 0.1)}), part="test")
    rows["c"][5, 1] = np.nan
    with pytest.raises(InputError, match="c held a NaN"):
        similarity.procrustes_distance(statistics("gram", rows))


@pytest.mark.parametrize(("n", "message"), [(3, "at least 4 rows, got 3"), (4, "equally far from each other")])
def test_debiased_cka_says_where_it_is_undefined(n: int, message: str) -> None:
    found = JointStatistics({"a": n})
    found.update({"a": torch.eye(n)}, torch.zeros(n, dtype=torch.int64))
    with pytest.raises(InputError, match=message):
        similarity.linear_cka(found, debiased=True)
