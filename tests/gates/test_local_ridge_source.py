"""csrc/cuda/local_ridge.cu without a GPU: the source run on the CPU, against NumPy and the reference."""

import ctypes

import numpy as np
import pytest
import torch

from latentcmp.ops.local_ridge.native import ridge_fold_struct
from latentcmp.ops.local_ridge.reference import RidgeFold, fold_losses

from ..ops.local_ridge_cases import make_problem, numpy_errors
from .emulation import emulated_fold_squares, emulated_local_ridge


@pytest.mark.parametrize("widths", [(5,), (130, 1)])
@pytest.mark.parametrize(("k", "width"), [(2, 5), (3, 5), (4, 1), (9, 9), (16, 33), (33, 5), (40, 40)])
def test_errors_are_those_of_the_definition(emulated, k, width, widths):
    problem = make_problem(k, width, widths)
    np.testing.assert_allclose(emulated_local_ridge(emulated, *problem), numpy_errors(*problem), rtol=1e-11)


@pytest.mark.parametrize("source", [0.0, 1e-200, 1e200])
def test_equal_neighbours_and_scales_are_those_of_the_cpu(emulated, source):
    x, query, rows, n_first, targets, strengths = make_problem(11, 6, (5, 2))
    expected = emulated_local_ridge(emulated, x, query, rows, n_first, targets, strengths)
    if source == 0:
        means = [y[rows].mean(1) for y, _ in targets]
        expected = torch.stack([(pair[1] - mean).norm(dim=1) for pair, mean in zip(targets, means, strict=True)])
    found = emulated_local_ridge(emulated, x * source, query * (source or 1), rows, n_first, targets, strengths)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("n", "m", "rank", "columns"), [(1, 1, 1, 1), (5, 6, 5, 7), (8, 8, 3, 128), (17, 9, 17, 129)])
def test_squares_of_one_fold_are_those_of_the_reference(emulated, n, m, rank, columns, second):
    random = torch.Generator().manual_seed(n)
    shapes = (3, n, rank), (3, rank, m), (3, 4, rank), (3, n + m, columns)
    *parts, y = (torch.randn(shape, dtype=torch.float64, generator=random) for shape in shapes)
    fold = RidgeFold(*parts)
    found = emulated_fold_squares(emulated, fold, y, second).sum(-1)
    torch.testing.assert_close(found, fold_losses(fold, y, second), rtol=1e-11, atol=0)


def test_no_problems_and_extents_out_of_range(emulated):
    empty = RidgeFold(*(torch.empty(shape, dtype=torch.float64) for shape in ((0, 5, 5), (0, 5, 6), (0, 7, 5))))
    y = torch.empty(0, 11, 4, dtype=torch.float64)
    assert emulated_fold_squares(emulated, empty, y, False).shape == (0, 7, 4)
    struct = ridge_fold_struct(empty, y, False)
    struct.columns = 0
    assert emulated.lc_cuda_local_ridge(ctypes.byref(struct), None, None) == -1
