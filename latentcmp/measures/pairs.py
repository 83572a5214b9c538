"""Errors between all ordered pairs of feature matrices; the work on a source is shared by all its targets."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, TwoFoldPath
from latentcmp.measures.inputs import Rows, local_points
from latentcmp.measures.local import local_errors
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.procrustes import orthogonal_map, padded
from latentcmp.statistics.compressed import Compressed


def pointwise_errors(
    source: Rows,
    targets: Sequence[Rows],
    measure: ErrorName,
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


def compressed_errors(
    source: Compressed,
    targets: Sequence[Compressed],
    measure: ErrorName,
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


def _missing(path: TwoFoldPath, source: Rows | Compressed, target: Rows | Compressed, measure: ErrorName) -> Tensor:
    """What a global map of the source lacks on the test rows: of the target, or of its own best orthogonal version."""
    if measure == "gfre":
        return target.test - path.predict(source.test, target.folds)
    train = source.folds.full
    predicted = path.predict(torch.cat([train, source.test]), target.folds)
    rotation = orthogonal_map(train, predicted[: len(train)])
    return padded(predicted[len(train) :], len(rotation)) - padded(source.test, len(rotation)) @ rotation
