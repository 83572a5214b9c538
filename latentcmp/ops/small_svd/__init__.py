"""Thin singular value decompositions of many small matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.small_svd import op
from latentcmp.ops.small_svd.reference import Svd


def small_svd(rows: Tensor, *, backend: str | None = None) -> Svd:
    """Decompose every matrix as u s v', singular values in descending order, without gradients.

    `torch.linalg.svd(rows, full_matrices=False)` is the reference. The CUDA kernel differs in the rows of vh that
    belong to a singular value of zero: it writes zeros there.

    Args:
        rows: [b, n, D] float64.
        backend: "cuda" (on its device) or "reference"; None takes LATENTCMP_BACKEND where it is one of these, else
            the first available. "cuda" runs the reference for matrices that do not fit in shared memory.

    Returns:
        u [b, n, r], s [b, r] and vh [b, r, D] with r = min(n, D).

    Raises:
        InputError: wrong dtype or shape, or a backend that is not available.
    """
    if rows.dim() != 3 or rows.dtype != torch.float64 or 0 in rows.shape[1:]:
        raise InputError(f"rows must be [b, n, D] float64, n and D not 0, got {rows.dtype} {tuple(rows.shape)}")
    chosen = backends.choose(op.BACKENDS, rows.device.type, backend)
    u, s, vh = torch.ops.latentcmp.small_svd(rows, chosen)
    return u, s, vh
