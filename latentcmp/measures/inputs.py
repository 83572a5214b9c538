"""Feature matrices as the measures take them: float64, scaled, divided into training and test rows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

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
        values = values.to(torch.float64)
        scaling = Scaling.fit(values[train], name)
        return cls(scaling(values[train]), scaling(values[test]))

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.train.shape[1]


def split_rows(features: Mapping[str, Tensor], train_idx: np.ndarray, test_idx: np.ndarray) -> dict[str, Rows]:
    """Split and scale every matrix of `features` [n, D] by the positions of training and test rows."""
    device = next(iter(features.values())).device
    train, test = (torch.from_numpy(rows).to(device) for rows in (train_idx, test_idx))
    return {name: Rows.split(values, train, test, name) for name, values in features.items()}


def local_points(source: Rows, target: Rows, n_local_points: int | None = None) -> int:
    """The k of a pair: as given, else min(D_X, D_Y) as in the paper, at least 2 and at most all training rows."""
    if n_local_points is not None:
        return n_local_points
    return min(points_of_widths(source.width, target.width), len(source.train))


def points_of_widths(source: int, target: int) -> int:
    """The k of a pair of widths by the paper's rule: min(D_X, D_Y), at least 2 (Chorna et al., arXiv 2512.05717)."""
    return max(2, min(source, target))


def root_mean_square(errors: Tensor) -> Tensor:
    """The value of a measure from its row errors [n]: sqrt(mean e_i^2)."""
    return errors.square().mean().sqrt()
