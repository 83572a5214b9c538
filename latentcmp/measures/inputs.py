"""Feature matrices as the measures take them: float64, scaled, divided into training and test rows."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latentcmp.statistics.compressed import Folds
from latentcmp.statistics.scaling import Scaling


class Rows:
    """One feature matrix in float64, scaled: training rows, test rows, and the folds that a global map is fitted on.

    `folds` are those of `train`, unless others are given: what stands for more training rows than are at hand.
    """

    def __init__(self, train: Tensor, test: Tensor, folds: Folds | None = None) -> None:
        self.train, self.test = train, test
        if folds is not None:
            self.folds = folds

    @classmethod
    def split(cls, values: Tensor, train: Tensor, test: Tensor, name: str = "the matrix") -> "Rows":
        """From all rows and the positions of each side, scaled on the training rows."""
        values = values.to(torch.float64)
        scaling = Scaling.fit(values[train], name)
        return cls(scaling(values[train]), scaling(values[test]))

    @cached_property
    def folds(self) -> Folds:
        """The training rows with their two folds."""
        return Folds.of_rows(self.train)

    @property
    def width(self) -> int:
        return self.train.shape[1]


def split_rows(features: Mapping[str, Tensor], train_idx: np.ndarray, test_idx: np.ndarray) -> dict[str, Rows]:
    """Scale every matrix of `features` on the training rows."""
    device = next(iter(features.values())).device
    train, test = (torch.from_numpy(rows).to(device) for rows in (train_idx, test_idx))
    return {name: Rows.split(values, train, test, name) for name, values in features.items()}


def local_points(source: Rows, target: Rows, n_local_points: int | None = None) -> int:
    """The k of a pair: as given, else min(D_X, D_Y) as in the paper, at least 2 and at most all training rows."""
    if n_local_points is not None:
        return n_local_points
    return min(points_of_widths(source.width, target.width), len(source.train))


def points_of_widths(source: int, target: int) -> int:
    """The k of a pair of widths by the paper's rule."""
    return max(2, min(source, target))


def root_mean_square(errors: Tensor) -> Tensor:
    """The number of a measure from its row errors: sqrt(mean e_i^2)."""
    return errors.square().mean().sqrt()
