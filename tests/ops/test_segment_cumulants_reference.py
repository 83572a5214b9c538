"""The torch reference against scipy, the published formulas and exact cases."""

import numpy as np
import pytest
import torch
from scipy import stats

from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.segment_cumulants.reference import (
    BLOCK_ELEMENTS,
    cumulants_from_moments,
    segment_cumulants_reference,
    segment_gradient_reference,
)

from .segment_cumulants_cases import make_case, scipy_cumulants


@pytest.mark.parametrize("order", range(1, 9))
def test_float64_agrees_with_scipy(order):
    x, ptr = make_case()
    got = segment_cumulants(x, ptr, order, backend="reference")
    want = scipy_cumulants(x, ptr, order)
    assert got.dtype == torch.float64
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_a_gaussian_has_no_cumulants_above_two():
    moments = [torch.tensor(float(m), dtype=torch.float64) for m in (1, 0, 1, 0, 3, 0, 15, 0, 105)]
    assert [float(k) for k in cumulants_from_moments(moments)[1:]] == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("order", [4, 8])
def test_narrow_types_agree_with_float64_of_the_same_numbers(dtype, order):
    x, ptr = make_case(dtype=dtype)
    got = segment_cumulants(x, ptr, order, backend="reference")
    want = scipy_cumulants(x, ptr, order)
    assert got.dtype == torch.float32
    scale = stats.moment(x.double().numpy(), order=2, axis=0) ** 0.5
    for m in range(1, order + 1):
        error = (got[:, m - 1] - want[:, m - 1]).abs().numpy() / np.maximum(scale**m, want[:, m - 1].abs().numpy())
        assert error.max() < 2e-6, f"order {m}"


def test_a_mean_of_a_million_deviations_costs_no_accuracy():
    counts = [30_000, 33, 7]
    x, ptr = make_case(counts, mean=1.4e6, dtype=torch.float32)
    got = segment_cumulants(x, ptr, 4, backend="reference").double()
    want = scipy_cumulants(x, ptr, 4)
    scale = want[:, 1].sqrt()
    for m in (2, 3, 4):
        assert ((got - want)[:, m - 1].abs() / scale**m).max() < 1e-5


def test_an_outlying_first_row_costs_no_accuracy():
    x, ptr = make_case([30_000], dtype=torch.float32)
    x[0] += 200.0
    got, want = segment_cumulants(x, ptr, 4, backend="reference").double(), scipy_cumulants(x, ptr, 4)
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-6)


def test_constant_columns_give_exactly_zero():
    x = torch.full((100, 3), 0.1, dtype=torch.float32)
    got = segment_cumulants(x, torch.tensor([0, 33, 34, 100]), 8, backend="reference")
    assert torch.equal(got[:, 0], torch.full((3, 3), 0.1))
    assert torch.count_nonzero(got[:, 1:]) == 0


@pytest.mark.parametrize(("n_atoms", "columns", "ptr"), [(0, 5, [0]), (0, 5, [0, 0, 0]), (4, 0, [0, 4])])
def test_nothing_in_gives_zeros_of_the_right_shape(n_atoms, columns, ptr):
    got = segment_cumulants(torch.zeros(n_atoms, columns), torch.tensor(ptr), 3, backend="reference")
    assert got.shape == (len(ptr) - 1, 3, columns)
    assert torch.count_nonzero(got) == 0


def test_nan_and_inf_stay_in_their_segment_and_column():
    x, ptr = make_case([4, 4, 4], columns=4)
    clean = segment_cumulants(x, ptr, 4, backend="reference")
    x[5, 1], x[9, 2] = float("nan"), float("inf")
    got = segment_cumulants(x, ptr, 4, backend="reference")
    touched = torch.zeros(3, 4, dtype=torch.bool)
    touched[1, 1] = touched[2, 2] = True
    assert torch.equal(got.isfinite().all(1), ~touched)
    where = (~touched)[:, None].expand_as(got)
    assert torch.equal(got[where], clean[where])


def test_a_segment_longer_than_a_block_agrees_with_scipy():
    x, ptr = make_case([3, BLOCK_ELEMENTS // 2, 2], columns=5)
    got = segment_cumulants(x, ptr, 6, backend="reference")
    torch.testing.assert_close(got, scipy_cumulants(x, ptr, 6), rtol=1e-9, atol=1e-9)


def test_strides_do_not_matter():
    x, ptr = make_case()
    want = segment_cumulants(x, ptr, 4, backend="reference")
    for view in (x.t().contiguous().t(), torch.stack([x, x], 2)[..., 0], x.flip(0).flip(0)):
        assert torch.equal(segment_cumulants(view, ptr, 4, backend="reference"), want)
    assert torch.equal(segment_cumulants(x[:1].expand(9, -1), torch.tensor([0, 9]), 2)[0, 0], x[0])


def test_root_is_the_signed_root():
    x, ptr = make_case()
    raw = scipy_cumulants(x, ptr, 8).numpy()
    got = segment_cumulants(x, ptr, 8, root=True, backend="reference")
    got[:, 1:] = got[:, 1:].sign() * got[:, 1:].abs() ** torch.arange(2, 9)[:, None]
    torch.testing.assert_close(got, torch.from_numpy(raw), rtol=1e-11, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_gradients_to_second_order(order, root):
    x, ptr = make_case([4, 6, 0, 5], columns=2)
    x.requires_grad_()

    def pool(x):
        return segment_cumulants_reference(x, ptr, order, root)

    assert torch.autograd.gradcheck(pool, x, atol=1e-4 if root else 1e-6)
    assert torch.autograd.gradgradcheck(pool, x, atol=1e-3 if root else 1e-5, rtol=1e-3)


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("order", range(1, 9))
def test_the_closed_form_gradient_is_autograds(order, root):
    x, ptr = make_case([4, 6, 0, 1, 5, 300], columns=3)
    x.requires_grad_()
    grad = torch.randn(6, order, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (want,) = torch.autograd.grad(segment_cumulants_reference(x, ptr, order, root), x, grad)
    got = segment_gradient_reference(grad, x.detach(), ptr, order, root)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_root_at_zero_is_zero():
    x = torch.zeros(6, 2, requires_grad=True)
    segment_cumulants(x, torch.tensor([0, 5, 6]), 8, root=True, backend="reference")[:, 1:].sum().backward()
    assert torch.equal(x.grad, torch.zeros(6, 2))


@pytest.mark.parametrize(
    ("x", "ptr", "order"),
    [
        (torch.zeros(3), torch.tensor([0, 3]), 4),
        (torch.zeros(3, 2, dtype=torch.int64), torch.tensor([0, 3]), 4),
        (torch.zeros(3, 2), torch.tensor([0, 3], dtype=torch.int32), 4),
        (torch.zeros(3, 2), torch.tensor([[0, 3]]), 4),
        (torch.zeros(3, 2), torch.tensor([], dtype=torch.int64), 4),
        (torch.zeros(3, 2), torch.tensor([0, 2]), 4),
        (torch.zeros(3, 2), torch.tensor([1, 3]), 4),
        (torch.zeros(3, 2), torch.tensor([0, 3, 2, 3]), 4),
        (torch.zeros(3, 2, device="meta"), torch.tensor([0, 3]), 4),
        (torch.zeros(3, 2), torch.tensor([0, 3]), 0),
        (torch.zeros(3, 2), torch.tensor([0, 3]), 9),
        (torch.zeros(3, 2), torch.tensor([0, 3]), True),
        ([[1.0]], torch.tensor([0, 1]), 2),
    ],
)
def test_bad_input_is_an_input_error(x, ptr, order):
    with pytest.raises(InputError):
        segment_cumulants(x, ptr, order)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("order", [4, 8])
def test_memory_used_again_changes_no_bit(dtype, order):
    x, ptr = make_case([3, 40, 3, 1, 0, 40, 3, BLOCK_ELEMENTS // 8, 2], columns=16, dtype=dtype)
    want = segment_cumulants_reference(x, ptr, order)
    with torch.no_grad():
        assert torch.equal(segment_cumulants_reference(x, ptr, order), want)


def test_forward_mode_agrees_with_the_gradient():
    x, ptr = make_case([4, 6, 1], columns=3)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(segment_cumulants_reference(leaf, ptr, 4).sum(), leaf)
    direction = torch.ones_like(x).cumsum(0)
    _, tangent = torch.func.jvp(lambda x: segment_cumulants_reference(x, ptr, 4), (x,), (direction,))
    torch.testing.assert_close(tangent.sum(), (slope * direction).sum(), rtol=1e-10, atol=1e-10)
