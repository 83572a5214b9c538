"""Rows of a feature matrix gathered in float64 about a centre: what statistics of rows begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError

NATIVE = (torch.float32, torch.float64)


def centred_rows(
    x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, *, backend: str | None = None
) -> None:
    """Put x[rows] - centre into `out` and the squared norm of each of its rows into `squares`, without a copy between.

    Args:
        x: [n_atoms, D] of a floating dtype, taken to float64 before the centre is taken off.
        rows: [n] int64. Their values are the caller's to keep in range.
        centre: [D] float64.
        out: [n, D] float64, unit column stride.
        squares: [n] float64.
        backend: force one by name; None takes LATENTCMP_BACKEND or the fastest available. Only "cpu" has a kernel of
            its own, for float32 and float64; all else runs the reference.

    Raises:
        InputError: wrong dtypes, shapes or devices.
    """
    _check(x, rows, centre, out, squares)
    if backends.choose(x.device.type, backend) == "cpu" and x.dtype in NATIVE:
        from latentcmp.ops.centred_rows import native

        native.centred_rows_cpu(x, rows, centre, out, squares)
        return
    out.copy_(x.index_select(0, rows)).sub_(centre)
    squares.copy_(torch.linalg.vecdot(out, out))


def _check(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor) -> None:
    if x.dim() != 2 or not x.is_floating_point() or not x.shape[1]:
        raise InputError(f"x must be [n_atoms, D] of a floating dtype with D > 0, got {x.dtype} {tuple(x.shape)}")
    n, columns = len(rows), x.shape[1]
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
