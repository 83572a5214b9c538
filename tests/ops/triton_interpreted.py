"""Tests that test_segment_cumulants_triton.py runs in a process of its own: Triton reads the environment at import."""

import pytest
import torch

from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.segment_cumulants.reference import segment_gradient_reference

from .segment_cumulants_cases import make_case, scipy_cumulants

RAGGED = [3, 0, 17, 1, 65, 1024, 1025, 2, 1500, 0]


@pytest.mark.parametrize(
    ("dtype", "order"), [(torch.float64, 8), (torch.float32, 4), (torch.float16, 4), (torch.bfloat16, 8)]
)
def test_cumulants_agree_with_scipy(dtype: torch.dtype, order: int) -> None:
    x, ptr = make_case(RAGGED, 70 if order == 4 else 7, dtype=dtype)
    got, want = segment_cumulants(x, ptr, order, backend="triton"), scipy_cumulants(x, ptr, order)
    error = ((got - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max()
    assert error < (1e-10 if dtype == torch.float64 else 5e-6)


@pytest.mark.parametrize(("order", "root"), [(1, False), (4, True), (8, False)])
def test_the_gradient_agrees_with_the_reference(order: int, root: bool) -> None:
    x, ptr = make_case(RAGGED, 21)
    grad = torch.randn(len(RAGGED), order, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grad[torch.tensor(RAGGED) == 2, 2:] = 0  # two rows have odd cumulants of 0 but for rounding
    leaf = x.clone().requires_grad_()
    out = segment_cumulants(leaf, ptr, order, root=root, backend="triton")
    (got,) = torch.autograd.grad(out, leaf, grad)
    want = segment_gradient_reference(grad, x, ptr, order, root)
    rows = torch.tensor(RAGGED).clamp(min=1).repeat_interleave(ptr.diff())[:, None]
    assert ((got - want).abs() * rows).max() < 1e-9 * (want.abs() * rows).max()


def test_constant_columns_and_large_means() -> None:
    out = segment_cumulants(torch.full((1100, 5), 0.1), torch.tensor([0, 1, 30, 1100]), 8, backend="triton")
    assert torch.count_nonzero(out[:, 1:]) == 0
    assert torch.equal(out[:, 0], torch.full((3, 5), 0.1))
    x, ptr = make_case([3000, 40], 9, mean=1.4e6, dtype=torch.float32)
    want = scipy_cumulants(x, ptr, 4)
    error = (segment_cumulants(x, ptr, 4, backend="triton") - want).abs()
    assert (error / want[:, 1:2].sqrt() ** torch.arange(1, 5)[:, None])[:, 1:].max() < 1e-5
