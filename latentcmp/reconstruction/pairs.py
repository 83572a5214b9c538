"""Errors between all ordered pairs of feature matrices; the work on a source is shared by all its targets."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.reconstruction.distortion import orthogonal_map, padded
from latentcmp.reconstruction.local import local_errors
from latentcmp.reconstruction.scaling import Scaling
from latentcmp.reconstruction.solvers import Folds, Solver, TwoFoldPath

Measure = Literal["gfre", "gfrd", "lfre"]
MEASURES: tuple[Measure, ...] = ("gfre", "gfrd", "lfre")


def check_measures(measures: Sequence[str]) -> None:
    """Raise InputError unless there are measures and all are known."""
    unknown = [measure for measure in measures if measure not in MEASURES]
    if unknown or not measures:
        raise InputError(
            f"measures must be some of {', '.join(MEASURES)}, got {', '.join(map(repr, measures)) or 'none'}"
        )


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


def pointwise_errors(
    source: Rows,
    targets: Sequence[Rows],
    measure: Measure,
    *,
    n_local_points: int | None = None,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
) -> list[Tensor]:
    """Row errors [n_test] of each target rebuilt from `source` (definitions: latentcmp.metrics)."""
    if measure == "lfre":
        return _local(source, targets, n_local_points, solver, alphas)
    path = TwoFoldPath(source.folds, solver, alphas)
    return [_missing(path, source, target, measure).norm(dim=1) for target in targets]


def local_points(source: Rows, target: Rows, n_local_points: int | None = None) -> int:
    """The k of a pair: as given, else min(D_X, D_Y) as in the paper, at least 2 and at most all training rows."""
    if n_local_points is not None:
        return n_local_points
    return min(points_of_widths(source.width, target.width), len(source.train))


def points_of_widths(source: int, target: int) -> int:
    """The k of a pair of widths by the paper's rule."""
    return max(2, min(source, target))


def _local(
    source: Rows,
    targets: Sequence[Rows],
    n_local_points: int | None,
    solver: Solver,
    alphas: np.ndarray | None,
) -> list[Tensor]:
    by_k: dict[int, list[int]] = {}
    for t, target in enumerate(targets):
        by_k.setdefault(local_points(source, target, n_local_points), []).append(t)
    errors: dict[int, Tensor] = {}
    for k, members in by_k.items():
        rows = [(targets[t].train, targets[t].test) for t in members]
        found = local_errors(source.train, source.test, rows, k, solver=solver, alphas=alphas)
        errors.update(zip(members, found, strict=True))
    return [errors[t] for t in range(len(targets))]


class Compressed(NamedTuple):
    """What stands for the rows of a feature matrix, with their inner products: training folds and test part, scaled.

    `scaling` is that of the rows themselves.
    """

    folds: Folds
    test: Tensor
    n_test: int
    scaling: Scaling


def global_errors(
    source: Compressed,
    targets: Sequence[Compressed],
    measure: Measure,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    unseen: float = 0.0,
) -> list[Tensor]:
    """GFRE or GFRD of each target, 0-dimensional, without the rows themselves."""
    if measure == "lfre":
        raise InputError("local errors need the rows themselves; statistics give gfre and gfrd")
    path = TwoFoldPath(source.folds, solver, alphas, unseen)
    return [_missing(path, source, target, measure).norm() / source.n_test**0.5 for target in targets]


def resolved_errors(
    source: Compressed, target: Compressed, source_rows: Tensor, target_rows: Tensor, unseen: float = 0.0
) -> Tensor:
    """Row errors [n] of rows at hand, [n, D_X] and [n, D_Y] as they are, under the global map of the training rows."""
    path = TwoFoldPath(source.folds, unseen=unseen)
    predicted = path.predict(source.scaling(source_rows.double()), target.folds)
    return (target.scaling(target_rows.double()) - predicted).norm(dim=1)


def _missing(path: TwoFoldPath, source: Rows | Compressed, target: Rows | Compressed, measure: Measure) -> Tensor:
    """What a global map of the source lacks on the test rows: of the target, or of its own best orthogonal version."""
    if measure == "gfre":
        return target.test - path.predict(source.test, target.folds)
    train = source.folds.full
    predicted = path.predict(torch.cat([train, source.test]), target.folds)
    rotation = orthogonal_map(train, predicted[: len(train)])
    return padded(predicted[len(train) :], len(rotation)) - padded(source.test, len(rotation)) @ rotation


def root_mean_square(errors: Tensor) -> Tensor:
    """The number of a measure from its row errors: sqrt(mean e_i^2)."""
    return errors.square().mean().sqrt()
