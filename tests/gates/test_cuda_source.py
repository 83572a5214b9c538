"""csrc/cuda without a GPU: its source run on the CPU against scipy, and compiled with register ceilings."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcmp._runtime import native
from latentcmp.ops.cutoff_losses.native import cutoff_losses_struct
from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference, segment_gradient_reference

from ..ops.cutoff_losses_cases import make_problem, sklearn_losses
from ..ops.segment_cases import make_case, scipy_cumulants

CSRC = Path(__file__).parent.parent.parent / "csrc"
ENTRIES = {
    "gram_spectra": 2,
    "cutoff_losses": 2,
    "small_svd": 2,
    "segment_cumulants": 8,
    "segment_cumulants_backward": 8,
}

RAGGED = [3, 0, 17, 1, 8, 9, 64, 65, 1024, 1025, 2, 1500, 1100, 0, 3000, 1030, 5, 2048, 0]


def run_forward(library, x, ptr, order, root=False):
    extents = (*x.shape, x.stride(0), len(ptr) - 1)
    options = (native.TYPES[x.dtype], order, root, 1, None)
    segments = native.SegmentsStruct(x.data_ptr(), ptr.data_ptr(), *extents, *options)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    out = torch.full((len(ptr) - 1, order, x.size(1)), float("nan"), dtype=wide)
    residual = torch.full((len(ptr) - 1, x.size(1)), float("nan"), dtype=wide)
    size = library.lc_cuda_segment_workspace(ctypes.byref(segments))
    workspace = torch.full((size // 8,), float("nan"), dtype=torch.float64)
    code = library.lc_cuda_segment_cumulants(
        ctypes.byref(segments), out.data_ptr(), residual.data_ptr(), workspace.data_ptr()
    )
    assert code == 0
    return segments, out, residual


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
    grad[torch.tensor(RAGGED) == 2, 2:] = 0  # two rows have odd cumulants of 0 but for rounding
    want = segment_gradient_reference(grad, x, ptr, order, root)
    narrow_tolerance = 1e-3 if root else 2e-5  # near k = 0 the slope of a root magnifies the rounding of k
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, narrow_tolerance)):
        narrow, cotangent = x.to(dtype), grad.to(dtype)
        segments, out, residual = run_forward(emulated, narrow, ptr, order, root)
        dx = torch.full_like(narrow, float("nan"))
        code = emulated.lc_cuda_segment_cumulants_backward(
            ctypes.byref(segments), cotangent.data_ptr(), out.data_ptr(), residual.data_ptr(), dx.data_ptr()
        )
        assert code == 0
        rows = torch.tensor(RAGGED).clamp(min=1).repeat_interleave(ptr.diff())[:, None]
        assert ((dx - want).abs() * rows).max() < tolerance * (want.abs() * rows).max()


@pytest.mark.parametrize("ptr", [[0, 9000, 3], [5, -70, 4000], [0, 2000, 1 << 40], [3000, 3000, 3000]])
def test_offsets_that_lie_stay_inside_x(emulated, ptr):
    x = torch.zeros(3000, 3)  # a read outside would crash or give something other than 0
    _, out, _ = run_forward(emulated, x, torch.tensor(ptr), 4)
    assert torch.count_nonzero(torch.nan_to_num(out)) == 0


@pytest.mark.parametrize(("sizes", "columns"), [((5, 6), 7), ((14, 17), 130), ((1, 1), 1)])
def test_local_losses_agree_with_scikit_learn(emulated, sizes, columns):
    problem = make_problem(sizes, columns)
    _, y, *folds = problem
    (n_problems, n_alphas), losses = folds[0].kept.shape, 0.0
    struct = cutoff_losses_struct(y, folds)
    for fitted in (0, 1):
        squares = torch.full((n_problems, n_alphas, columns), float("nan"), dtype=torch.float64)
        workspace = torch.full(
            (n_problems, folds[fitted].directions.shape[2] + 1, columns), float("nan"), dtype=torch.float64
        )
        code = emulated.lc_cuda_cutoff_losses(ctypes.byref(struct), fitted, squares.data_ptr(), workspace.data_ptr())
        assert code == 0
        losses = losses + (squares / sizes[1 - fitted]).sqrt().mean(-1) / 2
    np.testing.assert_allclose(losses, sklearn_losses(*problem), rtol=1e-10)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", ENTRIES)
def test_it_compiles_without_spills_under_a_register_ceiling(name, arch, tmp_path):
    command = ["nvcc", "-O3", "-std=c++17", f"-arch=sm_{arch}", "-cubin", "-Xptxas", "--warn-on-spills,-v"]
    command += ["-Werror", "all-warnings", str(CSRC / "cuda" / f"{name}.cu")]
    done = subprocess.run([*command, "-o", str(tmp_path / "out.cubin")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    stacks = [int(size) for size in re.findall(r"(\d+) bytes stack frame", done.stderr)]
    assert len(used) >= ENTRIES[name]
    assert max(used) <= 128  # four blocks of 128 threads on every multiprocessor
    assert sum(stacks) == 0
