"""Many small neighbourhoods taken apart: rows gathered and centred, their Gram matrix, its eigenvectors by fold."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.gram_spectra.neighbourhoods import Neighbourhoods, Spectrum
from latentcmp.ops.gram_spectra.reference import gram_spectra_reference

__all__ = ["Neighbourhoods", "Spectrum", "gram_spectra"]


def gram_spectra(x: Tensor, rows: Tensor, n_first: int, *, backend: str | None = None) -> Neighbourhoods:
    """The neighbourhoods of rows x at positions rows, the first n_first of each being its first fold.

    Args:
        x: [n_train, D] float64.
        rows: [b, k] int64, on x's device.
        n_first: 1 .. k - 1.
        backend: force one by name; None takes LATENTCMP_BACKEND or the fastest available. "cpu" and "triton" have
            no kernel of their own and run the reference, as "cuda" does for more rows than fit on chip.

    Raises:
        InputError: wrong dtypes, shapes or devices. The positions are the caller's to keep in range.
    """
    _check(x, rows, n_first)
    if backends.choose(x.device.type, backend) == "cuda":
        from latentcmp.ops.gram_spectra import native

        if native.fits(x.device, rows.shape[1]):  # else memory off the chip is needed, and torch's solvers know how
            return native.factors_cuda(x, rows, n_first)
    return gram_spectra_reference(x, rows, n_first)


def _check(x: Tensor, rows: Tensor, n_first: int) -> None:
    if x.dim() != 2 or x.dtype != torch.float64 or not x.numel():
        raise InputError(f"x must be [n_train, D] float64 and not empty, got {x.dtype} {tuple(x.shape)}")
    if rows.dim() != 2 or rows.dtype != torch.int64 or rows.device != x.device:
        raise InputError(f"rows must be [b, k] int64 on x's device, got {rows.dtype} {tuple(rows.shape)}")
    if not 1 <= n_first < rows.shape[1]:
        raise InputError(f"n_first must be 1 to {rows.shape[1] - 1} of {rows.shape[1]} rows, got {n_first}")
