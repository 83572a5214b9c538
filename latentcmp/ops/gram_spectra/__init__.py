"""Small sets of rows gathered and centred, their Gram matrices and eigendecompositions of the two folds and of all."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.gram_spectra import op
from latentcmp.ops.gram_spectra.reference import GramSpectra, Spectrum

__all__ = ["GramSpectra", "Spectrum", "gram_spectra"]


def gram_spectra(x: Tensor, rows: Tensor, n_first: int, *, backend: str | None = None) -> GramSpectra:
    """Gather and centre the rows of each problem and decompose their Gram matrix by fold, without gradients.

    Args:
        x: [n_train, D] float64.
        rows: [b, k] int64 on x's device, row numbers of x, the first fold before the second.
        n_first: number of rows of the first fold, 1 .. k - 1.
        backend: "cuda" (on its device) or "reference"; None takes LATENTCMP_BACKEND where it is one of these, else
            the first available. "cuda" runs the reference for more rows than fit in shared memory.

    Returns:
        The centred rows, their mean, Gram matrices and spectra, all contiguous.

    Raises:
        InputError: wrong dtypes, shapes or devices, or a backend that is not available. The values of rows are not
            checked.
    """
    _check(x, rows, n_first)
    chosen = backends.choose(op.BACKENDS, x.device.type, backend)
    return GramSpectra.from_tensors(*torch.ops.latentcmp.gram_spectra(x, rows, n_first, chosen))


def _check(x: Tensor, rows: Tensor, n_first: int) -> None:
    if x.dim() != 2 or x.dtype != torch.float64 or not x.numel():
        raise InputError(f"x must be [n_train, D] float64 and not empty, got {x.dtype} {tuple(x.shape)}")
    if rows.dim() != 2 or rows.dtype != torch.int64 or rows.device != x.device:
        raise InputError(f"rows must be [b, k] int64 on x's device, got {rows.dtype} {tuple(rows.shape)}")
    if not 1 <= n_first < rows.shape[1]:
        raise InputError(f"n_first must be 1 to {rows.shape[1] - 1} of {rows.shape[1]} rows, got {n_first}")
