"""The C++ kernel (csrc/cpu/centred_rows.cpp)."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import abi, native

DTYPES = (torch.float32, torch.float64)
"""What the kernel reads."""


def centred_rows_cpu(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor) -> None:
    """As `centred_rows`, on torch's number of threads."""
    x, rows, centre = native.unit_columns(x), rows.contiguous(), centre.contiguous()
    pointers = (tensor.data_ptr() for tensor in (x, rows, centre, out, squares))
    strides = x.stride(0), out.stride(0), squares.stride(0)
    extents = rows.shape[0], x.shape[1], *strides
    struct = abi.LcCentredRows(*pointers, *extents, abi.TYPES[x.dtype], torch.get_num_threads())
    native.run("centred_rows", x.device, struct)
