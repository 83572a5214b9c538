"""Calls of the emulated kernels."""

import ctypes

from latentcmp.ops.gram_spectra.native import gram_spectra_struct
from latentcmp.ops.gram_spectra.reference import empty_gram_spectra
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
