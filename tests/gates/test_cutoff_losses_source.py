"""csrc/cuda/cutoff_losses.cu without a GPU: the source run on the CPU, against scikit-learn."""

import ctypes

import numpy as np
import pytest
import torch

from latentcmp.ops.cutoff_losses.native import cutoff_losses_struct

from ..ops.cutoff_losses_cases import make_problem, sklearn_losses


@pytest.mark.parametrize(("sizes", "columns"), [((5, 6), 7), ((14, 17), 130), ((1, 1), 1)])
def test_losses_agree_with_scikit_learn(emulated, sizes, columns):
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
