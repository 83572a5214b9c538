"""Calls of the emulated kernels that several tests share."""

import ctypes

from latentcmp.ops.gram_spectra.native import empty_neighbourhoods, gram_spectra_struct
from latentcmp.ops.small_svd.native import empty_svd, small_svd_struct

H100, A100 = 232448, 166912
"""Bytes of shared memory that one block can have."""


def taken_apart(library, x, rows, n_first):
    """``gram_spectra`` by the emulated kernel; what it leaves unwritten is NaN."""
    found = empty_neighbourhoods(x, rows, n_first)
    for part in tensors(found):
        part.fill_(float("nan"))
    assert library.lc_cuda_gram_spectra(ctypes.byref(gram_spectra_struct(x, rows, found))) == 0
    return found


def tensors(found):
    return [*found[:3], *found.first, *found.second, *found.whole]


def decomposed(library, rows):
    """``small_svd`` by the emulated kernel."""
    rows, found = rows.contiguous(), empty_svd(rows)
    for part in found:
        part.fill_(float("nan"))
    assert library.lc_cuda_small_svd(ctypes.byref(small_svd_struct(rows, found))) == 0
    return found
