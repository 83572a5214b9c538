"""Thin singular value decompositions of many small matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError


def small_svd(rows: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """u [b, n, r], s [b, r] and vh [b, r, D] of rows [b, n, D] float64, r = min(n, D), strongest first.

    `torch.linalg.svd(rows, full_matrices=False)`, which is the reference, but for the rows of vh where a singular
    value is zero: the kernel leaves zeros there.

    Args:
        backend: force one by name; None takes LATENTCMP_BACKEND or the fastest available. "cpu" and "triton" have
            no kernel of their own and run the reference, as "cuda" does for matrices that do not fit on chip.

    Raises:
        InputError: wrong dtype or shape.
    """
    if rows.dim() != 3 or rows.dtype != torch.float64 or 0 in rows.shape[1:]:
        raise InputError(f"rows must be [b, n, D] float64, n and D not 0, got {rows.dtype} {tuple(rows.shape)}")
    if backends.choose(rows.device.type, backend) == "cuda":
        from latentcmp.ops.small_svd import native

        if native.fits(rows):
            return native.svd_cuda(rows)
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    return u, s, vh
