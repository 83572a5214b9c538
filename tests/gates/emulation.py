"""Calls of the emulated kernels."""

import ctypes

import torch

from latentcmp.ops.gram_spectra.native import gram_spectra_struct
from latentcmp.ops.gram_spectra.reference import empty_gram_spectra
from latentcmp.ops.local_ridge.native import ridge_fold_struct
from latentcmp.ops.local_ridge.reference import RidgeFold, errors_of_targets
from latentcmp.ops.small_svd.native import small_svd_struct
from latentcmp.ops.small_svd.reference import empty_svd

H100, A100 = 232448, 166912
"""Bytes of shared memory that one block can have."""


def emulated_gram_spectra(library, x, rows, n_first):
    """`gram_spectra` by the emulated kernel; elements that it does not write are NaN."""
    found = empty_gram_spectra(x, rows, n_first)
    for part in found.tensors():
        part.fill_(float("nan"))
    assert library.lc_cuda_gram_spectra(ctypes.byref(gram_spectra_struct(x, rows, found))) == 0
    return found


def emulated_small_svd(library, rows):
    """`small_svd` by the emulated kernel."""
    rows, found = rows.contiguous(), empty_svd(rows)
    for part in found:
        part.fill_(float("nan"))
    assert library.lc_cuda_small_svd(ctypes.byref(small_svd_struct(rows, found))) == 0
    return found


def emulated_local_ridge(library, x, query, rows, n_first, targets, strengths):
    """`local_ridge` by the emulated kernels: spectra of the source, and the squared errors of each fold."""
    y_train, y_test = zip(*targets, strict=True)

    def spectra(*given):
        return emulated_gram_spectra(library, *given)

    def losses(fold, y, second):
        return emulated_fold_squares(library, fold, y, second).sum(-1)

    return errors_of_targets(x, query, rows, n_first, y_train, y_test, strengths, spectra, losses)


def emulated_fold_squares(library, fold, y, second):
    """Squared errors [b, s, T] on the other fold; the workspace is NaN at first."""
    fold, y = RidgeFold(*(part.contiguous() for part in fold)), y.contiguous()
    squares, workspace = (
        torch.full((len(y), n, y.shape[2]), float("nan"), dtype=torch.float64) for n in fold.filters.shape[1:]
    )
    struct = ridge_fold_struct(fold, y, second)
    assert library.lc_cuda_local_ridge(ctypes.byref(struct), squares.data_ptr(), workspace.data_ptr()) == 0
    return squares
