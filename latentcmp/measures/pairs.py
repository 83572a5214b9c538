"""Row errors of feature matrices in memory; the work on a source is shared by all its targets."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp.measures.cross_validation import Solver, TwoFoldCV
from latentcmp.measures.global_paths import TRAINING, fit_maps
from latentcmp.measures.inputs import Rows, local_points
from latentcmp.measures.local import local_errors
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.procrustes import distortion, orthogonal_map
from latentcmp.measures.row_source import RowSource


def pointwise_errors(
    source: Rows,
    targets: Sequence[Rows],
    measure: ErrorName,
    *,
    n_local_points: int | None = None,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
) -> list[Tensor]:
    """Errors of the test rows of each target, reconstructed from `source` (definitions: `latentcmp.metrics`).

    Args:
        source: D_X columns.
        targets: with the same rows as the source.
        measure: "gfre", "gfrd" or "lfre".
        n_local_points: k of "lfre"; None for the smaller width of the pair.
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: relative strengths; None for the default grid.

    Returns:
        [n_test] float64 for each target.

    Raises:
        InputError: the options are not valid, or there are too few training rows.
    """
    if measure == "lfre":
        return _local(source, targets, n_local_points, solver, alphas)
    return _global(source, targets, measure, TwoFoldCV.of(solver, alphas, source.train.device))


def _global(source: Rows, targets: Sequence[Rows], measure: ErrorName, rules: TwoFoldCV) -> list[Tensor]:
    folds = RowSource.of_rows(source.train, torch.cat([target.train for target in targets], 1))
    widths = [target.width for target in targets]
    fitted = next(fit_maps([folds], widths, folds.fold_sizes, rules))
    predicted = fitted.predict(source.test).split_with_sizes(widths, 1)
    if measure == "gfre":
        return [(target.test - rows).norm(dim=1) for target, rows in zip(targets, predicted, strict=True)]
    train = folds.rows(TRAINING)
    rotations = [orthogonal_map(train, rows) for rows in fitted.predict(train).split_with_sizes(widths, 1)]
    pairs = zip(predicted, rotations, strict=True)
    return [distortion(source.test, *pair).norm(dim=1) for pair in pairs]


def _local(
    source: Rows, targets: Sequence[Rows], n_local_points: int | None, solver: Solver, alphas: np.ndarray | None
) -> list[Tensor]:
    by_k: dict[int, list[int]] = {}
    for t, target in enumerate(targets):
        by_k.setdefault(local_points(source, target, n_local_points), []).append(t)
    errors: dict[int, Tensor] = {}
    for k, members in by_k.items():
        rows = [targets[t] for t in members]
        of_k = local_errors(source.train, source.test, rows, k, solver=solver, alphas=alphas)
        errors.update(zip(members, of_k, strict=True))
    return [errors[t] for t in range(len(targets))]
