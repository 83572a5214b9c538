"""The CUDA kernel (csrc/cuda/small_svd.cu): Jacobi rotations of the rows in shared memory."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import abi, native
from latentcmp.ops.small_svd.reference import Svd, empty_svd


def fits(rows: Tensor) -> bool:
    """Whether the device's shared memory holds one of the matrices and its left singular vectors."""
    with torch.cuda.device(rows.device):
        return bool(native.library("cuda").lc_cuda_small_svd_fits(*rows.shape[1:]))


def small_svd_cuda(rows: Tensor) -> Svd:
    """As `small_svd`, on the current stream of the device without host synchronisation."""
    rows, result = rows.contiguous(), empty_svd(rows)
    native.run("small_svd", rows.device, small_svd_struct(rows, result))
    return result


def small_svd_struct(rows: Tensor, result: Svd) -> abi.LcSmallSvd:
    """The argument of the kernel; all tensors must be contiguous."""
    b, n, width = rows.shape
    outputs = (part.data_ptr() for part in result)
    extents = width, b, n, min(n, width)
    return abi.LcSmallSvd(rows.data_ptr(), *extents, *outputs, native.current_stream(rows.device))
