"""The C++ kernel (csrc/cpu/centred_rows.cpp)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentcmp._runtime import native


def centred_rows_cpu(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor) -> None:
    """As ``centred_rows``, of float32 or float64 x, on torch's number of threads."""
    x = x if x.stride(1) == 1 else x.contiguous()
    rows, centre = rows.contiguous(), centre.contiguous()
    pointers = (tensor.data_ptr() for tensor in (x, rows, centre, out, squares))
    strides = x.stride(0), out.stride(0), squares.stride(0)
    struct = native.CentredRowsStruct(
        *pointers, len(rows), x.shape[1], *strides, native.TYPES[x.dtype], torch.get_num_threads()
    )
    native.raise_for(native.library("cpu").lc_cpu_centred_rows(ctypes.byref(struct)), "lc_cpu_centred_rows")
