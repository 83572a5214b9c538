"""Matrices that stand for the rows of a feature matrix: they have the same inner products."""

from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.scaling import Scaling
from latentcmp.systems.folds import two_folds


class Folds(NamedTuple):
    """Training rows [..., n, D] with their two folds, centred and scaled already, in float64.

    Any matrices with the same inner products may stand for the rows, such as R factors of them; `n_first` and
    `n_second` are the true numbers of rows.
    """

    first: Tensor
    second: Tensor
    full: Tensor
    n_first: int
    n_second: int

    @classmethod
    def of_rows(cls, rows: Tensor) -> "Folds":
        """Cut rows by `two_folds(n)`; n >= 2."""
        n = rows.shape[-2]
        if n < 2:
            raise InputError(f"two-fold cross-validation needs at least 2 training rows, got {n}")
        first, second = (torch.from_numpy(positions).to(rows.device) for positions in two_folds(n))
        return cls(rows[..., first, :], rows[..., second, :], rows, len(first), len(second))


class Compressed(NamedTuple):
    """What stands for the rows of a feature matrix, with their inner products: training folds and test part, scaled.

    `scaling` is that of the rows themselves.
    """

    folds: Folds
    test: Tensor
    n_test: int
    scaling: Scaling
