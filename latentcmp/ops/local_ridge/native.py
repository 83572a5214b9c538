"""The kernels on CPU tensors (csrc/cpu/local_ridge.cpp) and on CUDA tensors (csrc/cuda/local_ridge.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof

from torch import Tensor

from latentcmp._runtime import abi, native
from latentcmp.ops.gram_spectra.native import fits, gram_spectra_cuda
from latentcmp.ops.gram_spectra.reference import gram_spectra_reference
from latentcmp.ops.local_ridge.reference import RidgeFold, errors_of_targets


def local_ridge_cpu(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: Sequence[Tensor],
    y_test: Sequence[Tensor],
    strengths: Tensor,
) -> Tensor:
    """As `local_ridge`, on the calling thread alone, one test row after the other in the caches of its core."""
    x, query = native.unit_columns(x), native.unit_columns(query)
    rows, strengths = rows.contiguous(), strengths.contiguous()
    pairs = [(native.unit_columns(a), native.unit_columns(b)) for a, b in zip(y_train, y_test, strict=True)]
    targets = (abi.LcLocalTarget * len(pairs))(
        *(abi.LcLocalTarget(a.data_ptr(), b.data_ptr(), a.shape[1], a.stride(0), b.stride(0)) for a, b in pairs)
    )
    pointers = x.data_ptr(), query.data_ptr(), rows.data_ptr(), strengths.data_ptr(), addressof(targets)
    extents = x.shape[1], x.stride(0), query.stride(0), *rows.shape, n_first, len(strengths), len(pairs)
    errors = x.new_empty((len(pairs), len(rows)))
    native.run("local_ridge", x.device, abi.LcLocalRidge(*pointers, *extents), errors.data_ptr())
    return errors


def local_ridge_cuda(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: Sequence[Tensor],
    y_test: Sequence[Tensor],
    strengths: Tensor,
) -> Tensor:
    """As `local_ridge`, on the current stream of x's device; `gram_spectra` decomposes the source."""
    spectra = gram_spectra_cuda if fits(x.device, rows.shape[1]) else gram_spectra_reference
    return errors_of_targets(x, query, rows, n_first, y_train, y_test, strengths, spectra, fold_losses_cuda)


def fold_losses_cuda(fold: RidgeFold, y: Tensor, second: bool) -> Tensor:
    """Squared errors [b, s] on the other fold, without host synchronisation."""
    fold, y = RidgeFold(*(part.contiguous() for part in fold)), y.contiguous()
    struct = ridge_fold_struct(fold, y, second)
    squares = y.new_empty((*fold.filters.shape[:2], y.shape[2]))
    workspace = y.new_empty((len(y), fold.filters.shape[2], y.shape[2]))
    native.run("local_ridge", y.device, struct, squares.data_ptr(), workspace.data_ptr())
    return squares.sum(-1)


def ridge_fold_struct(fold: RidgeFold, y: Tensor, second: bool) -> abi.LcRidgeFold:
    """The argument of the CUDA kernel; all tensors must be contiguous."""
    (b, k, columns), (n_strengths, rank), n = y.shape, fold.filters.shape[1:], fold.directions.shape[1]
    ranges = (k - n, n, 0, k - n) if second else (0, n, n, k - n)
    pointers = (part.data_ptr() for part in (y, *fold))
    return abi.LcRidgeFold(*pointers, columns, b, n_strengths, rank, *ranges, native.current_stream(y.device))
