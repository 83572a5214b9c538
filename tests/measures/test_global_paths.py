"""Global errors of statistics, all targets at once, against scikit-matter on wide and hard inputs."""

import numpy as np
import pytest
import torch

from latentcmp.measures import global_errors
from latentcmp.statistics import blocked_accumulators
from latentcmp.statistics.joint import JointStatistics
from latentcmp.systems.folds import halves, two_folds

skmatter_metrics = pytest.importorskip("skmatter.metrics")


def matrices(case: str, width: int, n: int) -> list[np.ndarray]:
    """A hard source [n, width] and a narrower noisy function of it."""
    rng = np.random.default_rng(width)
    source = rng.normal(size=(n, width))
    if case.startswith("condition"):
        left = np.linalg.qr(source)[0]
        smallest = 1 / float(case.split()[1])
        right = np.linalg.qr(rng.normal(size=(width, width)))[0]
        source = left * np.geomspace(1, smallest, width) @ right * n**0.5
    if case == "rank-deficient":
        source = source[:, : width // 3] @ rng.normal(size=(width // 3, width))
    if case == "equal columns":
        source[:, 1::2] = source[:, ::2]
    if case == "constant columns":
        source[:, ::5] = 0
    mixed = np.tanh(source @ rng.normal(size=(width, width // 2))) + 0.1 * rng.normal(size=(n, width // 2))
    return [source + 100.0, mixed - 3.0] if case == "large mean" else [source, mixed]


def found(features: list[np.ndarray], method: str, solver: str = "cutoff") -> np.ndarray:
    n = len(features[0])
    train = halves(n)[0]
    part = torch.full((n,), 2)
    for fold, rows in enumerate(two_folds(len(train))):
        part[torch.from_numpy(train[rows])] = fold
    statistics = JointStatistics({str(k): x.shape[1] for k, x in enumerate(features)}, method)  # type: ignore[arg-type]
    for rows in torch.arange(n).split(500):
        statistics.update({str(k): torch.from_numpy(x)[rows] for k, x in enumerate(features)}, part[rows])
    return statistics.errors(solver=solver).numpy()  # type: ignore[arg-type]


def oracle(features: list[np.ndarray], **options: object) -> np.ndarray:
    score = skmatter_metrics.global_reconstruction_error
    return np.array([[score(x, y, **options) for y in features] for x in features])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_accumulators, "BLOCK", 128)


@pytest.mark.parametrize(
    ("case", "width"),
    [
        ("gaussian", 64),
        ("gaussian", 256),
        ("condition 1e6", 128),
        ("condition 1e10", 64),
        ("condition 1e10", 128),
        ("rank-deficient", 96),
        ("equal columns", 64),
        ("constant columns", 64),
        ("large mean", 64),
    ],
)
def test_r_factors_agree_with_scikit_matter(case: str, width: int) -> None:
    features = matrices(case, width, 2400)
    np.testing.assert_allclose(found(features, "qr"), oracle(features), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("case", "width"), [("gaussian", 64), ("gaussian", 256), ("condition 1e3", 128), ("large mean", 64)]
)
def test_gram_matrices_agree_where_they_can_see(case: str, width: int) -> None:
    features = matrices(case, width, 2400)
    ours, expected = found(features, "gram"), oracle(features)
    off_diagonal = ~np.eye(2, dtype=bool)
    np.testing.assert_allclose(ours[off_diagonal], expected[off_diagonal], rtol=1e-8)
    assert ours.diagonal().max() < 1e-6


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_sources_factorised_in_one_batch_give_the_same_bits(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = [*matrices("gaussian", 64, 1200), *matrices("condition 1e3", 64, 1200)]
    one_by_one = found(features, method)
    taken = []

    def all_of(sources: list[object], device: torch.device) -> list[list[object]]:
        taken.append(len(sources))
        return [sources]

    monkeypatch.setattr(global_errors, "batches_for", all_of)
    np.testing.assert_array_equal(found(features, method), one_by_one)
    assert taken == [4]


@pytest.mark.parametrize(("method", "case"), [("gram", "gaussian"), ("qr", "gaussian"), ("qr", "condition 1e10")])
def test_ridge_agrees_with_scikit_matter(method: str, case: str) -> None:
    from skmatter.linear_model import Ridge2FoldCV

    features = matrices(case, 64, 1200)
    estimator = Ridge2FoldCV(
        alphas=np.geomspace(1e-9, 0.9, 20),
        alpha_type="relative",
        regularization_method="tikhonov",
        random_state=0x5F3759DF,
        shuffle=True,
        scoring="neg_root_mean_squared_error",
    )
    expected = oracle(features, estimator=estimator)
    np.testing.assert_allclose(found(features, method, "ridge"), expected, rtol=1e-8, atol=1e-7)
