"""The CUDA kernel (csrc/cuda/gram_spectra.cu): a neighbourhood stays on chip from its rows to its eigenvectors."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentcmp._runtime import native
from latentcmp.ops.gram_spectra.neighbourhoods import Neighbourhoods, Spectrum, ranks


def fits(device: torch.device, k: int) -> bool:
    """Whether the device's on-chip memory holds the Gram matrix of k rows."""
    with torch.cuda.device(device):
        return bool(native.library("cuda").lc_cuda_gram_spectra_fit(k))


def factors_cuda(x: Tensor, rows: Tensor, n_first: int) -> Neighbourhoods:
    """As in ``gram_spectra``, on the current stream of x's device; nothing is read back."""
    x = x if x.stride(1) == 1 and x.stride(0) >= 0 else x.contiguous()
    rows, found = rows.contiguous(), empty_neighbourhoods(x, rows, n_first)
    library, stream = native.library("cuda"), torch._C._cuda_getCurrentRawStream(x.device.index)
    with torch.cuda.device(x.device):
        code = library.lc_cuda_gram_spectra(ctypes.byref(gram_spectra_struct(x, rows, found, stream)))
    native.raise_for(code, "lc_cuda_gram_spectra", library)
    return found


def empty_neighbourhoods(x: Tensor, rows: Tensor, n_first: int) -> Neighbourhoods:
    """Room for what the kernel writes."""
    (problems, k), width = rows.shape, x.shape[1]
    spectra = (
        Spectrum(x.new_empty((problems, rank)), x.new_empty((problems, n, rank)))
        for n, rank in zip((n_first, k - n_first, k), ranks(n_first, k, width), strict=True)
    )
    near, mean = x.new_empty((problems, k, width)), x.new_empty((problems, width))
    return Neighbourhoods(near, mean, x.new_empty((problems, k, k)), *spectra)


def gram_spectra_struct(
    x: Tensor, rows: Tensor, found: Neighbourhoods, stream: int | None = None
) -> native.GramSpectraStruct:
    """What the kernel is called with; everything but x must be contiguous."""
    spectra = (native.SpectrumStruct * 3)(
        *(
            native.SpectrumStruct(part.squares.data_ptr(), part.directions.data_ptr(), *part.directions.shape[1:])
            for part in (found.first, found.second, found.whole)
        )
    )
    extents, outputs = (x.shape[1], x.stride(0), *rows.shape), (found.x, found.mean, found.gram)
    return native.GramSpectraStruct(
        x.data_ptr(), rows.data_ptr(), *extents, *(part.data_ptr() for part in outputs), spectra, stream
    )
