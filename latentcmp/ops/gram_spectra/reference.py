"""Gram matrices and their spectra in PyTorch: the oracle of the kernel, and the fastest backend on a CPU."""

from typing import NamedTuple

import torch
from torch import Tensor


class Spectrum(NamedTuple):
    """The r largest eigenvalues of Gram matrices in descending order, and their eigenvectors.

    Attributes:
        squares: [b, r] eigenvalues, squared singular values of the rows; rounding can leave a small one negative.
        directions: [b, n, r] eigenvectors.
    """

    squares: Tensor
    directions: Tensor


class GramSpectra(NamedTuple):
    """Centred rows of b problems, their Gram matrices and the spectra of these, all float64.

    Attributes:
        x: [b, k, D] rows minus their mean.
        mean: [b, D].
        gram: [b, k, k] inner products of the centred rows.
        first: of the diagonal block of the first fold, at most D directions.
        second: of the diagonal block of the second fold, at most D directions.
        whole: of the whole matrix, at most min(k - 1, D) directions: k centred rows have a rank of at most k - 1.
    """

    x: Tensor
    mean: Tensor
    gram: Tensor
    first: Spectrum
    second: Spectrum
    whole: Spectrum

    def tensors(self) -> tuple[Tensor, ...]:
        """All nine tensors, the inverse of `from_tensors`."""
        return (self.x, self.mean, self.gram, *self.first, *self.second, *self.whole)

    @classmethod
    def from_tensors(cls, x: Tensor, mean: Tensor, gram: Tensor, *spectra: Tensor) -> "GramSpectra":
        """From the nine tensors that `tensors` gives."""
        return cls(x, mean, gram, Spectrum(*spectra[:2]), Spectrum(*spectra[2:4]), Spectrum(*spectra[4:]))


def gram_spectra_reference(x: Tensor, rows: Tensor, n_first: int) -> GramSpectra:
    """As `gram_spectra`."""
    near = x[rows]
    mean = near.mean(1, keepdim=True)
    near = near - mean
    gram = near @ near.mT
    folds = slice(None, n_first), slice(n_first, None), slice(None)
    ranks = _ranks(n_first, *near.shape[1:])
    spectra = (spectrum_of_gram(gram[:, fold, fold], rank) for fold, rank in zip(folds, ranks, strict=True))
    return GramSpectra(near, mean[:, 0], gram, *spectra)


def spectrum_of_gram(gram: Tensor, rank: int) -> Spectrum:
    """The `rank` largest eigenvalues of matrices [b, n, n] and their eigenvectors."""
    squares, u = torch.linalg.eigh(gram)
    return Spectrum(squares.flip(-1)[:, :rank].contiguous(), u.flip(-1)[..., :rank].contiguous())


def empty_gram_spectra(x: Tensor, rows: Tensor, n_first: int) -> GramSpectra:
    """Uninitialised tensors of the shapes of a result."""
    (problems, k), width = rows.shape, x.shape[1]
    sizes = n_first, k - n_first, k
    spectra = (
        Spectrum(x.new_empty((problems, rank)), x.new_empty((problems, n, rank)))
        for n, rank in zip(sizes, _ranks(n_first, k, width), strict=True)
    )
    near, mean = x.new_empty((problems, k, width)), x.new_empty((problems, width))
    return GramSpectra(near, mean, x.new_empty((problems, k, k)), *spectra)


def _ranks(n_first: int, k: int, width: int) -> tuple[int, int, int]:
    """The largest ranks of the first fold, the second fold and all of k centred rows of a width."""
    return min(n_first, width), min(k - n_first, width), min(k - 1, width)
