"""csrc/cuda/small_svd.cu without a GPU: its threads as fibers, against SciPy."""

import ctypes

import pytest
import torch

from latentcmp.ops.small_svd.native import small_svd_struct
from latentcmp.ops.small_svd.reference import empty_svd

from ..ops.small_svd_cases import MATRICES, check_svd, make_matrices
from .emulation import A100, H100, emulated_small_svd


@pytest.mark.parametrize("case", MATRICES)
@pytest.mark.parametrize(("n", "width"), [(1, 1), (1, 6), (2, 1), (10, 70), (17, 9), (34, 40)])
def test_decompositions_are_those_of_scipy(emulated, case, n, width):
    matrices = make_matrices(case, n, width)
    check_svd(emulated_small_svd(emulated, matrices), matrices)


def test_ill_conditioned_r_factors_in_a_cluster(emulated):
    rows, n = make_matrices("graded columns", 640, 128, problems=1), 128
    mixed = rows[0] @ torch.linalg.qr(make_matrices("random", n, n, problems=1)[0]).Q
    factors = [torch.linalg.qr(part, mode="r").R for part in mixed.tensor_split(2)]
    matrices = torch.cat(factors).T[None]
    assert (matrices.numel() + n * n) * 8 > H100  # more than one block holds
    check_svd(emulated_small_svd(emulated, matrices), matrices, 1e-12)


@pytest.mark.parametrize(("n", "shared_bytes"), [(11, H100), (34, H100), (21, 4000)])
def test_no_bit_depends_on_the_order_of_the_threads(emulated, device, n, shared_bytes):
    matrices, found = make_matrices("random", n, 21), []
    for last_first in (0, 1):
        device(shared_bytes, last_first=last_first)
        found.append(emulated_small_svd(emulated, matrices))
        check_svd(found[-1], matrices)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_the_extents_that_fit_depend_on_the_device(emulated, device):
    fits = emulated.lc_cuda_small_svd_fits
    assert [fits(64, width) for width in (0, 1, 256, 1024, 1 << 20, 1 << 40)] == [0, 1, 1, 1, 0, 0]
    device(A100, major=8)  # no clusters
    assert [fits(64, width) for width in (128, 1024)] == [1, 0]
    matrices = make_matrices("random", 64, 300)
    struct = small_svd_struct(matrices, empty_svd(matrices))
    assert emulated.lc_cuda_small_svd(ctypes.byref(struct)) == -1
    device()
    assert emulated_small_svd(emulated, matrices[:0])[1].shape == (0, 64)
