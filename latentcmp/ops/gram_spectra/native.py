"""The CUDA kernel (csrc/cuda/gram_spectra.cu), which keeps a problem in shared memory throughout."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp._runtime import abi, native
from latentcmp.ops.gram_spectra.reference import GramSpectra, empty_gram_spectra


def fits(device: torch.device, k: int) -> bool:
    """Whether the device's shared memory holds the Gram matrix of k rows."""
    with torch.cuda.device(device):
        return bool(native.library("cuda").lc_cuda_gram_spectra_fits(k))


def gram_spectra_cuda(x: Tensor, rows: Tensor, n_first: int) -> GramSpectra:
    """As `gram_spectra`, on the current stream of x's device without host synchronisation."""
    x, rows = native.unit_columns(x), rows.contiguous()
    result = empty_gram_spectra(x, rows, n_first)
    native.run("gram_spectra", x.device, gram_spectra_struct(x, rows, result))
    return result


def gram_spectra_struct(x: Tensor, rows: Tensor, result: GramSpectra) -> abi.LcGramSpectra:
    """The argument of the kernel; all tensors but x must be contiguous."""
    spectra = (abi.LcSpectrum * 3)(
        *(
            abi.LcSpectrum(part.squares.data_ptr(), part.directions.data_ptr(), *part.directions.shape[1:])
            for part in (result.first, result.second, result.whole)
        )
    )
    extents, outputs = (x.shape[1], x.stride(0), *rows.shape), (result.x, result.mean, result.gram)
    pointers = (part.data_ptr() for part in outputs)
    stream = native.current_stream(x.device)
    return abi.LcGramSpectra(x.data_ptr(), rows.data_ptr(), *extents, *pointers, spectra, stream)
