"""Feature matrices as the measures take them: float64, scaled, divided into training and test rows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.statistics.scaling import Scaling


class Rows(NamedTuple):
    """Training rows [n_train, D] and test rows [n_test, D] of one feature matrix, float64 and scaled."""

    train: Tensor
    test: Tensor

    @classmethod
    def split(cls, values: Tensor, train: Tensor, test: Tensor, name: str = "the matrix") -> "Rows":
        """Split and scale a matrix.

        Args:
            values: [n, D], any real floating-point dtype.
            train: positions of the training rows, which the scaling is fitted to.
            test: positions of the test rows.
            name: what the matrix is called in messages.

        Raises:
            InputError: the training rows are constant.
        """
        x_train, x_test = (values[rows].to(torch.float64) for rows in (train, test))
        scaling = Scaling.fit_(x_train, name)
        return cls(x_train, scaling.apply_(x_test))

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.train.shape[1]


class SampledMatrices(NamedTuple):
    """Sampled rows of several matrices, the same rows of each.

    Attributes:
        values: {name: [n, D]}, float64, centred and scaled.
        groups: [n] int64, the group of each row: rows of one group are never neighbours of each other.
    """

    values: dict[str, Tensor]
    groups: Tensor


def split_rows(features: Mapping[str, Tensor], train_idx: np.ndarray, test_idx: np.ndarray) -> dict[str, Rows]:
    """Split and scale every matrix of `features` [n, D] by the positions of training and test rows."""
    device = next(iter(features.values())).device
    train, test = (torch.from_numpy(rows).to(device) for rows in (train_idx, test_idx))
    rows = map_over_cores(lambda name: Rows.split(features[name], train, test, name), list(features), device)
    return dict(zip(features, rows, strict=True))


MOST_LOCAL_POINTS = 64
"""Neighbours of a local map of folds where no number is given: more are not local, and cost their cube."""


def local_points(source: Rows, target: Rows, n_local_points: int | None = None, most: int | None = None) -> int:
    """The k of a pair: as given, else that of its widths, at most all training rows."""
    if n_local_points is not None:
        return n_local_points
    return min(points_of_widths(source.width, target.width, most), len(source.train))


def points_of_widths(source: int, target: int, most: int | None = None) -> int:
    """The k of a pair of widths: min(D_X, D_Y) as in the paper (Chorna et al., arXiv 2512.05717), at least 2.

    Args:
        source: D_X.
        target: D_Y.
        most: the largest k; None for no limit, as in the paper.
    """
    return max(2, min(source, target, most or source))


def root_mean_square(errors: Tensor) -> Tensor:
    """The value of a measure from its row errors [n]: sqrt(mean e_i^2)."""
    return errors.square().mean().sqrt()
