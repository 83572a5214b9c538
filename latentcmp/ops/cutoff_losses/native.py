"""The kernels on CPU tensors (csrc/cpu/cutoff_losses.cpp) and on CUDA tensors (csrc/cuda/cutoff_losses.cu)."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import abi, native
from latentcmp.ops.cutoff_losses.reference import FoldFit


def cutoff_losses_cpu(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """As `cutoff_losses`, on the calling thread alone."""
    y, folds = native.unit_columns(y), [_contiguous(first), _contiguous(second)]
    losses = torch.empty_like(folds[0].kept, dtype=y.dtype)
    native.run("cutoff_losses", y.device, cutoff_losses_struct(y, folds), losses.data_ptr())
    return losses


def cutoff_losses_cuda(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """As `cutoff_losses`, on the current stream of y's device without host synchronisation."""
    y, folds = native.unit_columns(y), [_contiguous(first), _contiguous(second)]
    (n_problems, n_alphas), columns = first.kept.shape, y.shape[1]
    squares = y.new_empty((n_problems, n_alphas, columns))
    losses = y.new_zeros((n_problems, n_alphas))
    struct = cutoff_losses_struct(y, folds)
    for fitted, other in ((0, 1), (1, 0)):
        workspace = y.new_empty((n_problems, folds[fitted].directions.shape[2] + 1, columns))
        native.run("cutoff_losses", y.device, struct, fitted, squares.data_ptr(), workspace.data_ptr())
        losses += (squares / folds[other].rows.shape[1]).sqrt().mean(-1)
    return losses / 2


def _contiguous(fold: FoldFit) -> FoldFit:
    return FoldFit(*(part.contiguous() for part in fold))


def cutoff_losses_struct(y: Tensor, folds: list[FoldFit]) -> abi.LcCutoffLosses:
    """The argument of the kernels; all tensors but y must be contiguous."""
    sides = (abi.LcFold * 2)(
        *(abi.LcFold(*(part.data_ptr() for part in fold), *fold.directions.shape[1:]) for fold in folds)
    )
    extents = y.shape[1], y.stride(0), *folds[0].kept.shape
    return abi.LcCutoffLosses(y.data_ptr(), *extents, sides, native.current_stream(y.device))
