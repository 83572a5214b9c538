"""The CUDA kernel (csrc/cuda/small_svd.cu): rotations of the rows, which stay on chip."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentcmp._runtime import native

Svd = tuple[Tensor, Tensor, Tensor]


def fits(rows: Tensor) -> bool:
    """Whether on-chip memory of the device holds one of the matrices and its left singular vectors."""
    with torch.cuda.device(rows.device):
        return bool(native.library("cuda").lc_cuda_small_svd_fit(*rows.shape[1:]))


def svd_cuda(rows: Tensor) -> Svd:
    """As in ``small_svd``, on the current stream of the device; nothing is read back."""
    rows, found = rows.contiguous(), empty_svd(rows)
    library, stream = native.library("cuda"), torch._C._cuda_getCurrentRawStream(rows.device.index)
    with torch.cuda.device(rows.device):
        code = library.lc_cuda_small_svd(ctypes.byref(small_svd_struct(rows, found, stream)))
    native.raise_for(code, "lc_cuda_small_svd", library)
    return found


def empty_svd(rows: Tensor) -> Svd:
    """Room for what the kernel writes."""
    b, n, width = rows.shape
    rank = min(n, width)
    return rows.new_empty((b, n, rank)), rows.new_empty((b, rank)), rows.new_empty((b, rank, width))


def small_svd_struct(rows: Tensor, found: Svd, stream: int | None = None) -> native.SmallSvdStruct:
    """What the kernel is called with; everything must be contiguous."""
    b, n, width = rows.shape
    outputs = (part.data_ptr() for part in found)
    return native.SmallSvdStruct(rows.data_ptr(), width, b, n, min(n, width), *outputs, stream)
