"""The losses against scikit-learn, scikit-matter and kernel forms, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from skmatter.linear_model import Ridge2FoldCV
from skmatter.metrics import global_reconstruction_error
from skmatter.preprocessing import StandardFlexibleScaler
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.nn import CKALoss, CumulantPooling, ReconstructionLoss
from latentcmp.nn.ridge import FLOOR

from .loss_cases import D, N, T, gradients, related, rows, variants


def scaled(matrix: Tensor) -> np.ndarray:
    return StandardFlexibleScaler(column_wise=False).fit_transform(matrix.numpy())


@pytest.mark.parametrize("n", [N, D, 4], ids=["rows > columns", "square", "rows < columns"])
@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 1.0])
def test_the_linear_loss_is_what_ridge_regression_leaves(n, alpha):
    x, y = related(n)
    source, target = scaled(x), scaled(y)
    fit = Ridge(alpha=(alpha + FLOOR) * n, fit_intercept=False, solver="svd").fit(source, target)
    want = np.sqrt(np.square(target - fit.predict(source)).sum(1).mean())
    assert ReconstructionLoss(alpha=alpha)(x, y).item() == pytest.approx(want, rel=1e-8)


def test_the_linear_loss_is_the_global_error_on_the_training_rows():
    x, y = related()
    everything, scaler = np.arange(N), StandardFlexibleScaler(column_wise=False)
    fit = Ridge2FoldCV(alphas=[1e-3 * N], alpha_type="absolute", regularization_method="tikhonov")
    want = global_reconstruction_error(
        x.numpy(), y.numpy(), test_idx=everything, train_idx=everything, estimator=fit, scaler=scaler
    )
    assert ReconstructionLoss(alpha=1e-3)(x, y).item() == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("k", [4, 12], ids=["fewer points than columns", "more"])
def test_the_local_loss_is_a_ridge_regression_on_the_neighbours_of_every_row(k):
    x, y = related()
    source, target = scaled(x), scaled(y)
    nearest = NearestNeighbors(n_neighbors=k + 1).fit(source).kneighbors(source, return_distance=False)
    errors = []
    for row, (itself, *others) in enumerate(nearest):
        assert itself == row
        strength = 1e-2 * source[others].var(0).sum() * k
        fit = Ridge(alpha=strength, solver="svd").fit(source[others], target[others])
        errors.append(target[row] - fit.predict(source[[row]])[0])
    want = np.sqrt(np.square(errors).sum(1).mean())
    assert ReconstructionLoss(alpha=1e-2, n_local_points=k)(x, y).item() == pytest.approx(want, rel=1e-8)


def test_structures_are_compared_through_their_cumulants():
    x, y = related()
    ptr = torch.arange(0, N + 1, 4)
    parts = [m.numpy().reshape(-1, 4, m.size(1)) for m in (x, y)]
    pooled = [torch.from_numpy(np.hstack([part.mean(1), stats.moment(part, 2, axis=1)])) for part in parts]
    loss = ReconstructionLoss(alpha=1e-2, pooling=CumulantPooling(order=2))
    torch.testing.assert_close(loss(x, y, ptr), ReconstructionLoss(alpha=1e-2)(*pooled))
    torch.testing.assert_close(CKALoss(pooling=CumulantPooling(order=2))(x, y, ptr), CKALoss()(*pooled))


def test_the_running_map_is_that_of_all_rows_while_the_momentum_is_below_one_over_the_batches():
    x, y = related(120)
    loss = ReconstructionLoss(alpha=1e-3, momentum=1e-3, widths=(D, T))
    for a, b in zip(x.split(30), y.split(30), strict=True):
        loss(a, b)
    whole = ReconstructionLoss(alpha=1e-3)(x, y)
    torch.testing.assert_close(loss.eval()(x, y), whole)
    assert loss.moments.n_batches == 4


def test_running_moments_fade_exponentially():
    loss = ReconstructionLoss(momentum=0.25, widths=(D, T))
    batches = [torch.cat(related(seed=seed), 1) for seed in range(9)]
    for batch in batches:
        loss(batch[:, :D], batch[:, D:])
    weights = np.array([1 / 4 * 0.75**5] * 4 + [0.25 * 0.75**age for age in (4, 3, 2, 1, 0)]).repeat(N)
    joint = torch.cat(batches).numpy()
    np.testing.assert_allclose(loss.moments.mean, np.average(joint, axis=0, weights=weights))
    np.testing.assert_allclose(loss.moments.covariance, np.cov(joint.T, aweights=weights, ddof=0))


def test_running_moments_travel_with_the_state_and_stand_still_in_evaluation():
    loss = ReconstructionLoss(momentum=0.2, widths=(D, T))
    loss(*related())
    other = ReconstructionLoss(momentum=0.2, widths=(D, T))
    other.load_state_dict(loss.state_dict())
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    probe = related(seed=3)
    assert other.eval()(*probe) == loss.eval()(*probe)
    for name, value in loss.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


@variants
@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_a_batch_that_overflowed_gives_a_nan_and_is_forgotten(make, odd):
    loss, clean = make(), make()
    x, y = related()
    for module in (loss, clean):
        module(x, y)
    assert torch.isnan(loss(x.index_fill(0, torch.tensor([3]), odd), y))
    for name, value in clean.state_dict().items():
        assert torch.equal(loss.state_dict()[name], value)
    assert torch.equal(loss(x, y), clean(x, y))


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_is_that_of_the_kernels(debiased):
    x, y = related()
    ones, centre = np.ones(N), np.eye(N) - 1 / N

    def hsic(k: np.ndarray, other: np.ndarray) -> float:
        if not debiased:
            return np.trace(k @ centre @ other @ centre)
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))  # Song et al. (2012), eq. 4
        total = np.trace(k @ other) + (ones @ k @ ones) * (ones @ other @ ones) / ((N - 1) * (N - 2))
        return (total - 2 / (N - 2) * (ones @ k @ other @ ones)) / (N * (N - 3))

    k, other = (x @ x.T).numpy(), (y @ y.T).numpy()
    want = 1 - hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))
    assert CKALoss(debiased)(x, y).item() == pytest.approx(want, rel=1e-9)


def test_cka_does_not_see_rotations_scales_and_shifts_and_its_debiased_form_not_the_number_of_rows():
    x = rows()
    turned = 7 * x @ torch.linalg.qr(rows(D, D, 5)).Q - 2
    assert CKALoss()(x, turned).item() == pytest.approx(0, abs=1e-12)
    noise = torch.Generator().manual_seed(0)
    unrelated = [torch.randn(2, 12, 30, generator=noise, dtype=torch.float64) for _ in range(200)]
    plain, debiased = (np.mean([loss(*pair).item() for pair in unrelated]) for loss in (CKALoss(False), CKALoss()))
    assert plain < 0.5
    assert debiased == pytest.approx(1, abs=0.03)


def test_no_strength_at_all_is_least_squares_on_a_singular_source():
    x, y = rows(500, 3) @ rows(3, 300, 1), rows(500, T, 4)
    source, target = scaled(x), scaled(y)
    residual = target - source @ np.linalg.lstsq(source, target, rcond=1e-10)[0]
    want = np.sqrt(np.square(residual).sum(1).mean())
    assert ReconstructionLoss(alpha=0)(x, y).item() == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_constant_source_gives_one_and_a_constant_target_nothing(dtype):
    constant, x = torch.full((N, D), 0.3, dtype=dtype), rows(dtype=dtype)
    assert ReconstructionLoss()(constant, x).item() == pytest.approx(1)
    assert ReconstructionLoss()(x, constant).item() < 1e-12
    assert CKALoss()(constant, x).item() == 1
    assert torch.count_nonzero(gradients(ReconstructionLoss(), constant, x)[1]) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ReconstructionLoss()(rows(), rows(N - 1)), f"{N} and {N - 1} rows"),
        (lambda: ReconstructionLoss()(rows()[0], rows()), "source must be"),
        (lambda: ReconstructionLoss()(rows(), rows().long()), "target must be"),
        (lambda: ReconstructionLoss()(rows(1), rows(1)), "at least 2 rows, got 1"),
        (lambda: ReconstructionLoss(n_local_points=9)(rows(9), rows(9)), "at least 10 rows, got 9"),
        (lambda: CKALoss()(rows(3), rows(3)), "at least 4 rows, got 3"),
        (lambda: ReconstructionLoss()(rows(), rows(), torch.tensor([0, N])), "with segments"),
        (lambda: ReconstructionLoss(pooling=CumulantPooling())(rows(), rows()), "without segments"),
        (lambda: ReconstructionLoss(momentum=0.1, widths=(D, D))(rows(), rows(N, T)), "widths are"),
        (lambda: ReconstructionLoss(momentum=0.1), "widths="),
        (lambda: ReconstructionLoss(momentum=0.0, widths=(D, T)), "above 0"),
        (lambda: ReconstructionLoss(momentum=0.1, widths=(D, T), n_local_points=4), "n_local_points"),
        (lambda: ReconstructionLoss(n_local_points=1), "at least 2"),
        (lambda: ReconstructionLoss(alpha=-1), "alpha"),
        (lambda: ReconstructionLoss(alpha=float("nan")), "alpha"),
        (lambda: ReconstructionLoss(detach="both"), "none, map, source, target"),
        (lambda: ReconstructionLoss(solver="cutoff"), "ridge"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(InputError, match=said):
        call()
