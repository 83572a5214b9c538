"""What a neighbourhood is taken apart into."""

from typing import NamedTuple

from torch import Tensor


class Spectrum(NamedTuple):
    """Eigenvalues [b, r] and eigenvectors [b, n, r] of Gram matrices, the r largest in falling order.

    Rounding can leave a small eigenvalue below zero.
    """

    squares: Tensor
    directions: Tensor


class Neighbourhoods(NamedTuple):
    """Rows near each of b points: x [b, k, D] less their mean [b, D], gram [b, k, k], what it splits into.

    first, second: spectra of the diagonal blocks of the first n_first rows and of the others, at most D directions
    each; whole: of all rows, at most min(k - 1, D), since centred rows span one direction less.
    """

    x: Tensor
    mean: Tensor
    gram: Tensor
    first: Spectrum
    second: Spectrum
    whole: Spectrum


def ranks(n_first: int, k: int, width: int) -> tuple[int, int, int]:
    """Directions of the first fold, the second and the whole that k centred rows of a width can have."""
    return min(n_first, width), min(k - n_first, width), min(k - 1, width)
