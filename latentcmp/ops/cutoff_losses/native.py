"""The C++ kernel (csrc/cpu/cutoff_losses.cpp) on CPU tensors, the CUDA kernels (csrc/cuda) on CUDA tensors."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentcmp._runtime import native

if TYPE_CHECKING:
    from latentcmp.ops.cutoff_losses import FoldFit


def losses_cpu(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """Losses [n_problems, n_alphas] as in ``cutoff_losses``, on the calling thread alone."""
    y, folds = _unit_columns(y), [_contiguous(first), _contiguous(second)]
    losses = torch.empty_like(folds[0].kept, dtype=y.dtype)
    code = native.library("cpu").lc_cpu_cutoff_losses(ctypes.byref(cutoff_losses_struct(y, folds)), losses.data_ptr())
    native.raise_for(code, "lc_cpu_cutoff_losses")
    return losses


def losses_cuda(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """As ``losses_cpu``, on the current stream of y's device; nothing is read back."""
    y, folds = _unit_columns(y), [_contiguous(first), _contiguous(second)]
    library, (n_problems, n_alphas), columns = native.library("cuda"), first.kept.shape, y.shape[1]
    squares = y.new_empty((n_problems, n_alphas, columns))
    losses = y.new_zeros((n_problems, n_alphas))
    for fitted, other in ((0, 1), (1, 0)):
        workspace = y.new_empty((n_problems, folds[fitted].directions.shape[2] + 1, columns))
        with torch.cuda.device(y.device):
            code = library.lc_cuda_cutoff_losses(
                ctypes.byref(cutoff_losses_struct(y, folds)), fitted, squares.data_ptr(), workspace.data_ptr()
            )
        native.raise_for(code, "lc_cuda_cutoff_losses", library)
        losses += (squares / folds[other].rows.shape[1]).sqrt().mean(-1)
    return losses / 2


def _unit_columns(y: Tensor) -> Tensor:
    return y if y.stride(1) == 1 and y.stride(0) >= 0 else y.contiguous()


def _contiguous(fold: FoldFit) -> FoldFit:
    return type(fold)(*(part.contiguous() for part in fold))


def cutoff_losses_struct(y: Tensor, folds: list[FoldFit]) -> native.CutoffLossesStruct:
    """What the kernels are called with; everything but y must be contiguous."""
    stream = torch._C._cuda_getCurrentRawStream(y.device.index) if y.device.type == "cuda" else None
    sides = (native.FoldStruct * 2)(
        *(native.FoldStruct(*(part.data_ptr() for part in fold), *fold.directions.shape[1:]) for fold in folds)
    )
    return native.CutoffLossesStruct(y.data_ptr(), y.shape[1], y.stride(0), *folds[0].kept.shape, sides, stream)
