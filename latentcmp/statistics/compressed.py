"""Matrices with the inner products of the rows of a feature matrix, in place of the rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.scaling import Scaling
from latentcmp.systems.folds import two_folds


class Folds(NamedTuple):
    """Training rows with their two folds, centred and scaled, float64, or matrices with the same inner products.

    Attributes:
        first: rows of fold 1 [..., n, D].
        second: rows of fold 2 [..., n, D].
        full: rows of both [..., n, D].
        n_first: number of rows that `first` represents.
        n_second: number of rows that `second` represents.
    """

    first: Tensor
    second: Tensor
    full: Tensor
    n_first: int
    n_second: int

    @classmethod
    def of_rows(cls, rows: Tensor) -> "Folds":
        """Split rows [..., n, D] by `two_folds(n)`. Raises InputError for n below 2."""
        n = rows.shape[-2]
        if n < 2:
            raise InputError(f"two-fold cross-validation needs at least 2 training rows, got {n}")
        first, second = (torch.from_numpy(positions).to(rows.device) for positions in two_folds(n))
        return cls(rows[..., first, :], rows[..., second, :], rows, len(first), len(second))


class Compressed(NamedTuple):
    """Matrices with the inner products of the centred and scaled rows of a feature matrix.

    Attributes:
        folds: training rows.
        test: test rows [m, D].
        n_test: number of rows that `test` represents.
        scaling: scaling of the rows.
    """

    folds: Folds
    test: Tensor
    n_test: int
    scaling: Scaling
