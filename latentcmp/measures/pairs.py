"""Row errors of feature matrices in memory; the work on a source is shared by all its targets."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latentcmp.measures.cross_validation import Solver, TwoFoldCV, checked_alphas
from latentcmp.measures.global_paths import TRAINING, fit_maps
from latentcmp.measures.inputs import MOST_LOCAL_POINTS, Rows, local_points
from latentcmp.measures.local import check_local_points, errors_of_neighbours
from latentcmp.measures.local_ridge import default_local_strengths, local_ridge_errors
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.nearest import nearest
from latentcmp.measures.procrustes import distortion, orthogonal_map
from latentcmp.measures.row_source import RowSource
from latentcmp.measures.strength_search import N_STRENGTHS

LEAST_LOCAL_CUTOFF = 1e-2
ErrorsOf = Callable[..., list[Tensor]]


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
        return _local(source, targets, n_local_points, partial(errors_of_neighbours, solver=solver, alphas=alphas))
    return _global(source, targets, measure, TwoFoldCV.of(solver, alphas, source.train.device))


def folded_local_errors(
    source: Rows, targets: Sequence[Rows], n_local_points: int | None, solver: Solver, alphas: np.ndarray | None
) -> list[Tensor]:
    """Local errors of the test rows of a fold: as "lfre" of `pointwise_errors`, by the rules of folds of groups.

    "ridge" is that of `latentcmp.measures.local_ridge`; "cutoff" keeps its rules, but from `LEAST_LOCAL_CUTOFF`.
    """
    strengths = default_local_grid(solver) if alphas is None else checked_alphas(alphas)
    if solver == "cutoff":
        errors_of: ErrorsOf = partial(errors_of_neighbours, solver=solver, alphas=strengths)
    else:
        errors_of = partial(local_ridge_errors, strengths=strengths)
    return _local(source, targets, n_local_points, errors_of, MOST_LOCAL_POINTS)


def default_local_grid(solver: Solver) -> np.ndarray:
    """The default strengths of local maps with folds of groups."""
    return default_local_strengths() if solver == "ridge" else np.geomspace(LEAST_LOCAL_CUTOFF, 0.9, N_STRENGTHS)


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
    source: Rows,
    targets: Sequence[Rows],
    n_local_points: int | None,
    errors_of: ErrorsOf,
    most: int | None = None,
) -> list[Tensor]:
    by_k: dict[int, list[int]] = {}
    for t, target in enumerate(targets):
        by_k.setdefault(local_points(source, target, n_local_points, most), []).append(t)
    for k in by_k:
        check_local_points(k, len(source.train))
    neighbours = nearest(source.train, source.test, max(by_k))  # nearest first: fewer are the first of them
    errors: dict[int, Tensor] = {}
    for k, members in by_k.items():
        of_k = errors_of(source.train, source.test, [targets[t] for t in members], neighbours[:, :k].contiguous())
        errors.update(zip(members, of_k, strict=True))
    return [errors[t] for t in range(len(targets))]
