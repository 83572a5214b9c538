"""csrc/cuda/segment_cumulants*.cu without a GPU: the source run on the CPU, against SciPy."""

import ctypes

import pytest
import torch

from latentcmp.ops.segment_cumulants.native import segment_cumulants_struct
from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference, segment_gradient_reference

from ..ops.segment_cumulants_cases import make_case, scipy_cumulants

RAGGED = [3, 0, 17, 1, 8, 9, 64, 65, 1024, 1025, 2, 1500, 1100, 0, 3000, 1030, 5, 2048, 0]


def run_forward(library, x, ptr, order, root=False):
    struct = segment_cumulants_struct(x, ptr, order, root)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    out = torch.full((len(ptr) - 1, order, x.size(1)), float("nan"), dtype=wide)
    residual = torch.full((len(ptr) - 1, x.size(1)), float("nan"), dtype=wide)
    size = library.lc_cuda_segment_cumulants_workspace(ctypes.byref(struct))
    workspace = torch.full((size // 8,), float("nan"), dtype=torch.float64)
    pointers = out.data_ptr(), residual.data_ptr(), workspace.data_ptr()
    code = library.lc_cuda_segment_cumulants(ctypes.byref(struct), *pointers)
    assert code == 0
    return struct, out, residual


@pytest.mark.parametrize("columns", [5, 40, 130])
@pytest.mark.parametrize("order", [3, 4, 8])
def test_the_source_agrees_with_scipy(emulated, columns, order):
    x, ptr = make_case(RAGGED, columns, mean=3.0)
    _, out, _ = run_forward(emulated, x, ptr, order)
    want = scipy_cumulants(x, ptr, order)
    assert ((out - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_types_agree_with_scipy(emulated, dtype):
    x, ptr = make_case(RAGGED, 33, dtype=dtype)
    _, out, residual = run_forward(emulated, x, ptr, 8)
    want = scipy_cumulants(x, ptr, 8)
    assert ((out - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max() < 3e-6
    assert (out[:, 0].double() + residual - want[:, 0]).abs().max() < 1e-6


def test_roots_large_means_and_constants(emulated):
    x, ptr = make_case([3000, 40], 9)
    _, out, _ = run_forward(emulated, (x * 1e-5).float(), ptr, 8, root=True)
    want = segment_cumulants_reference(x, ptr, 8, root=True)
    assert (out * 1e5 - want).abs().max() < 2e-4
    x, ptr = make_case([3000, 40], 9, mean=1.4e6, dtype=torch.float32)
    _, out, _ = run_forward(emulated, x, ptr, 4)
    want = scipy_cumulants(x, ptr, 4)
    scale = want[:, 1:2].sqrt() ** torch.arange(1, 5)[:, None]
    assert ((out - want).abs() / scale)[:, 1:].max() < 1e-5
    _, out, _ = run_forward(emulated, torch.full((3040, 9), 0.1), ptr, 8)
    assert torch.count_nonzero(out[:, 1:]) == 0


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("order", [1, 4, 8])
def test_the_gradient_is_that_of_the_reference(emulated, order, root):
    x, ptr = make_case(RAGGED, 21)
    grad = torch.randn(len(RAGGED), order, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grad[torch.tensor(RAGGED) == 2, 2:] = 0  # odd cumulants of two rows are 0 up to rounding
    want = segment_gradient_reference(grad, x, ptr, order, root)
    narrow_tolerance = 1e-3 if root else 2e-5  # near k = 0 the slope of a root amplifies the rounding of k
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, narrow_tolerance)):
        narrow, cotangent = x.to(dtype), grad.to(dtype)
        struct, out, residual = run_forward(emulated, narrow, ptr, order, root)
        dx = torch.full_like(narrow, float("nan"))
        code = emulated.lc_cuda_segment_cumulants_backward(
            ctypes.byref(struct), cotangent.data_ptr(), out.data_ptr(), residual.data_ptr(), dx.data_ptr()
        )
        assert code == 0
        rows = torch.tensor(RAGGED).clamp(min=1).repeat_interleave(ptr.diff())[:, None]
        assert ((dx - want).abs() * rows).max() < tolerance * (want.abs() * rows).max()


@pytest.mark.parametrize("ptr", [[0, 9000, 3], [5, -70, 4000], [0, 2000, 1 << 40], [3000, 3000, 3000]])
def test_invalid_offsets_are_clamped_to_x(emulated, ptr):
    x = torch.zeros(3000, 3)  # a read outside would crash or give something other than 0
    _, out, _ = run_forward(emulated, x, torch.tensor(ptr), 4)
    assert torch.count_nonzero(torch.nan_to_num(out)) == 0
