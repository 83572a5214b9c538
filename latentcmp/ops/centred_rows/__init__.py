"""Rows of a feature matrix, gathered and centred in float64, with their squared norms."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.centred_rows import op


def centred_rows(
    x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, *, backend: str | None = None
) -> None:
    """Write x[rows] - centre to `out` and the squared norms of its rows to `squares`, without gradients.

    Args:
        x: [n_atoms, D] of a floating dtype, converted to float64 before the centre is subtracted.
        rows: [n] int64, row numbers of x; their range is not checked.
        centre: [D] float64.
        out: [n, D] float64, unit column stride.
        squares: [n] float64.
        backend: "cpu" or "reference" on a CPU, "reference" elsewhere; None takes LATENTCMP_BACKEND where it is one of
            these, else the first available. "cpu" runs its kernel for float32 and float64 and the reference for
            other dtypes.

    Raises:
        InputError: wrong dtypes, shapes or devices, or a backend that is not available.
    """
    _check(x, rows, centre, out, squares)
    chosen = backends.choose(op.BACKENDS, x.device.type, backend)
    torch.ops.latentcmp.centred_rows(x, rows, centre, out, squares, chosen)


def _check(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor) -> None:
    if x.dim() != 2 or not x.is_floating_point() or not x.shape[1]:
        raise InputError(f"x must be [n_atoms, D] of a floating dtype with D > 0, got {x.dtype} {tuple(x.shape)}")
    n, columns = rows.shape[0], x.shape[1]
    expected = {
        "rows": (rows, torch.int64, (n,)),
        "centre": (centre, torch.float64, (columns,)),
        "out": (out, torch.float64, (n, columns)),
        "squares": (squares, torch.float64, (n,)),
    }
    for name, (given, dtype, shape) in expected.items():
        if given.dtype != dtype or tuple(given.shape) != shape or given.device != x.device:
            raise InputError(
                f"{name} must be {dtype} {shape} on {x.device}, "
                f"got {given.dtype} {tuple(given.shape)} on {given.device}"
            )
    if out.stride(1) != 1:
        raise InputError(f"out must have unit column stride, got {out.stride(1)}")
