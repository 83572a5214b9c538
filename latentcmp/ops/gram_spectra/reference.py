"""Neighbourhoods in plain torch: the oracle of the kernel, and on a CPU the fastest there is."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.gram_spectra.neighbourhoods import Neighbourhoods, Spectrum, ranks


def gram_spectra_reference(x: Tensor, rows: Tensor, n_first: int) -> Neighbourhoods:
    """As in ``gram_spectra``."""
    near = x[rows]
    mean = near.mean(1, keepdim=True)
    near = near - mean
    gram = near @ near.mT
    head, tail, both = slice(None, n_first), slice(n_first, None), slice(None)
    spectra = (
        spectrum_of_gram(gram[:, part, part], rank)
        for part, rank in zip((head, tail, both), ranks(n_first, *near.shape[1:]), strict=True)
    )
    return Neighbourhoods(near, mean[:, 0], gram, *spectra)


def spectrum_of_gram(gram: Tensor, rank: int) -> Spectrum:
    """The `rank` largest eigenvalues of matrices [b, n, n] and their eigenvectors."""
    squares, u = torch.linalg.eigh(gram)
    return Spectrum(squares.flip(-1)[:, :rank], u.flip(-1)[..., :rank].contiguous())
