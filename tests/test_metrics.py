"""The measures against scikit-matter, over the inputs that hurt."""

import numpy as np
import pytest
import torch

from latentcmp import metrics
from latentcmp.errors import InputError
from latentcmp.features.data import Features

skmatter_metrics = pytest.importorskip("skmatter.metrics")

GLOBAL = ("global_reconstruction_error", "global_reconstruction_distortion")


def spread(rng: np.random.Generator, n: int, width: int, smallest: float = 1e-9) -> np.ndarray:
    """A matrix [n, width] whose singular values run down to `smallest` of the largest."""
    left = np.linalg.qr(rng.normal(size=(n, width)))[0]
    right = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return left * np.geomspace(1, smallest, width) @ right


def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of one hard case; the target is a noisy nonlinear function of the source."""
    rng = np.random.default_rng(sum(map(ord, name)))
    n, wide, narrow = 240, 20, 12

    def target(source: np.ndarray, width: int, gain: float = 1.0) -> np.ndarray:
        mixed = np.tanh(gain * source @ rng.normal(size=(source.shape[1], width)))
        return mixed + 0.1 * rng.normal(size=(len(source), width))

    if name == "narrow to wide":
        source = rng.normal(size=(n, narrow))
        return source, target(source, wide)
    if name == "wide to narrow":
        source = rng.normal(size=(n, wide))
        return source, target(source, narrow)
    if name == "ill-conditioned":
        source = spread(rng, n, wide)
        return source, target(source, wide, 20.0)
    if name == "rank-deficient":
        source = rng.normal(size=(n, 6)) @ rng.normal(size=(6, narrow))
        return source, target(source, narrow)
    if name == "duplicated rows":
        source = rng.normal(size=(n // 3, narrow))
        order = rng.permutation(n // 3 * 3)
        return np.repeat(source, 3, 0)[order], np.repeat(target(source, wide), 3, 0)[order]
    if name == "fewer rows than columns":
        source = rng.normal(size=(40, 60))
        return source, target(source, 60)
    if name == "large mean":
        source = rng.normal(size=(n, narrow)) + 1e4
        return source, target(source - 1e4, narrow) + 1e4
    source = rng.normal(size=(n, narrow))
    return source, target(source, narrow)


CASES = (
    "gaussian",
    "narrow to wide",
    "wide to narrow",
    "ill-conditioned",
    "rank-deficient",
    "duplicated rows",
    "fewer rows than columns",
    "large mean",
)


def oracle(function: str, X: np.ndarray, Y: np.ndarray, *args: int, **options: object) -> np.ndarray:
    return getattr(skmatter_metrics, function)(X.astype(np.float64), Y.astype(np.float64), *args, **options)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES)
def test_global_error_agrees_with_scikit_matter(case: str, dtype: type) -> None:
    X, Y = (matrix.astype(dtype) for matrix in pair(case))
    np.testing.assert_allclose(metrics.global_reconstruction_error(X, Y), oracle(GLOBAL[0], X, Y), rtol=1e-8)
    rows = metrics.pointwise_global_reconstruction_error(X, Y)
    np.testing.assert_allclose(rows, oracle(f"pointwise_{GLOBAL[0]}", X, Y), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_distortion_agrees_with_scikit_matter(case: str) -> None:
    X, Y = pair(case)
    if X.shape[1] > Y.shape[1]:  # scikit-matter raises; zero columns of the target change neither map nor rotation
        padded = np.pad(Y, [(0, 0), (0, X.shape[1] - Y.shape[1])])
        expected = oracle(f"pointwise_{GLOBAL[1]}", X, padded)
    else:
        expected = oracle(f"pointwise_{GLOBAL[1]}", X, Y)
    rows = metrics.pointwise_global_reconstruction_distortion(X, Y)
    np.testing.assert_allclose(rows, expected, rtol=1e-8, atol=1e-12)
    total = metrics.global_reconstruction_distortion(X, Y)
    np.testing.assert_allclose(total, np.sqrt(np.mean(expected**2)), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("n_local_points", [7, 12, 20])
@pytest.mark.parametrize("case", CASES)
def test_local_error_agrees_with_scikit_matter(case: str, n_local_points: int) -> None:
    X, Y = pair(case)
    rows = metrics.pointwise_local_reconstruction_error(X, Y, n_local_points)
    expected = oracle("pointwise_local_reconstruction_error", X, Y, n_local_points)
    np.testing.assert_allclose(rows, expected, rtol=1e-6, atol=1e-9)
    total = metrics.local_reconstruction_error(X, Y, n_local_points)
    np.testing.assert_allclose(total, np.sqrt(np.mean(expected**2)), rtol=1e-6)


@pytest.mark.parametrize("case", ["gaussian", "ill-conditioned", "fewer rows than columns"])
def test_ridge_agrees_with_scikit_matter(case: str) -> None:
    linear_model = pytest.importorskip("skmatter.linear_model")
    estimator = linear_model.Ridge2FoldCV(
        alphas=np.geomspace(1e-9, 0.9, 20),
        alpha_type="relative",
        regularization_method="tikhonov",
        random_state=0x5F3759DF,
        shuffle=True,
        scoring="neg_root_mean_squared_error",
    )
    X, Y = pair(case)
    found = metrics.global_reconstruction_error(X, Y, solver="ridge")
    np.testing.assert_allclose(found, oracle(GLOBAL[0], X, Y, estimator=estimator), rtol=1e-8)
    found = metrics.local_reconstruction_error(X, Y, 12, solver="ridge")
    np.testing.assert_allclose(found, oracle("local_reconstruction_error", X, Y, 12, estimator=estimator), rtol=1e-6)


@pytest.mark.parametrize("given", ["test_idx", "train_idx", "both", "mask"])
def test_split_is_completed_as_in_scikit_matter(given: str) -> None:
    X, Y = pair("gaussian")
    order = np.random.default_rng(3).permutation(len(X))
    rows = {"test_idx": order[:70], "train_idx": order[70:200]}
    if given == "mask":
        mask = np.zeros(len(X), dtype=bool)
        mask[order[:70]] = True
        found = metrics.global_reconstruction_error(X, Y, test_idx=torch.from_numpy(mask))
        expected = oracle(GLOBAL[0], X, Y, test_idx=np.flatnonzero(mask))
    else:
        options = rows if given == "both" else {given: rows[given]}
        found = metrics.global_reconstruction_error(X, Y, **options)
        expected = oracle(GLOBAL[0], X, Y, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_real_features_agree_with_scikit_matter(chgnet_features: Features, sevennet_features: Features) -> None:
    X, Y = chgnet_features.values.numpy(), sevennet_features.values.numpy()
    for source, target in ((X, Y), (Y, X)):
        found = metrics.pointwise_global_reconstruction_error(source, target)
        expected = oracle(f"pointwise_{GLOBAL[0]}", source, target)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * expected.max())
        found = metrics.local_reconstruction_error(source, target, 24)
        np.testing.assert_allclose(found, oracle("local_reconstruction_error", source, target, 24), rtol=1e-6)


def test_tensors_in_tensors_out() -> None:
    X, Y = (torch.from_numpy(matrix) for matrix in pair("gaussian"))
    rows = metrics.pointwise_global_reconstruction_error(X, Y)
    total = metrics.global_reconstruction_error(X, Y)
    assert isinstance(rows, torch.Tensor)
    assert rows.shape == (len(X) // 2,)
    assert isinstance(total, torch.Tensor)
    assert total.ndim == 0
    assert isinstance(metrics.global_reconstruction_error(X.numpy(), Y.numpy()), float)


def test_any_view_of_an_array_is_taken() -> None:
    X, Y = pair("gaussian")
    expected = metrics.global_reconstruction_error(X[::-1].copy(), Y[::-1].copy())
    assert metrics.global_reconstruction_error(X[::-1], Y[::-1]) == expected
    X.flags.writeable = False
    assert metrics.global_reconstruction_error(X[::-1], np.asfortranarray(Y)[::-1]) == pytest.approx(
        expected, rel=1e-12
    )


def test_alphas_of_one_strength_are_used() -> None:
    X, Y = pair("ill-conditioned")
    weak = metrics.global_reconstruction_error(X, Y, alphas=[1e-9])
    strong = metrics.global_reconstruction_error(X, Y, alphas=[0.9])
    assert not np.isclose(weak, strong)
    assert 0.5 < strong < 1.5  # one direction left: about as good as the mean


BAD = {
    "rows differ": (lambda X, Y: (X[:-1], Y), {}, "same rows"),
    "not a matrix": (lambda X, Y: (X[:, 0], Y), {}, "must be a matrix"),
    "nan": (lambda X, Y: (np.where(np.arange(len(X))[:, None] == 17, np.nan, X), Y), {}, "row 17"),
    "complex": (lambda X, Y: (X + 1j, Y), {}, "complex"),
    "words": (lambda X, Y: (X.astype(str), [["a"]] * len(X)), {}, "Y must be a matrix of numbers"),
    "no columns": (lambda X, Y: (X[:, :0], Y), {}, "X has no columns"),
    "words as alphas": (lambda X, Y: (X, Y), {"alphas": ["x"]}, r"\[0, 1\)"),
    "constant": (lambda X, Y: (X, np.full_like(Y, 0.1)), {}, "Y is constant"),
    "empty test": (lambda X, Y: (X, Y), {"test_idx": []}, "1 test row"),
    "one training row": (lambda X, Y: (X, Y), {"train_idx": [4]}, "2 training rows"),
    "row out of range": (lambda X, Y: (X, Y), {"test_idx": [100000]}, "row 100000"),
    "float rows": (lambda X, Y: (X, Y), {"test_idx": [0.5, 1.5]}, "row numbers"),
    "solver": (lambda X, Y: (X, Y), {"solver": "lasso"}, "cutoff, ridge"),
    "alphas": (lambda X, Y: (X, Y), {"alphas": [2.0]}, r"\[0, 1\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    change, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        metrics.global_reconstruction_error(*change(*pair("gaussian")), **options)


@pytest.mark.parametrize("n_local_points", [0, 1, 121, 2.5, "x"])
def test_local_points_must_fit_the_training_rows(n_local_points: int) -> None:
    with pytest.raises(InputError, match="between 2 and the number of training rows, 120"):
        metrics.local_reconstruction_error(*pair("gaussian"), n_local_points)
