"""Local reconstruction: a linear map of its own for every test row, from its nearest training rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, TwoFoldCV
from latentcmp.measures.global_paths import FITTED, fit_map
from latentcmp.measures.local_cutoff import LocalFolds, local_weights
from latentcmp.measures.nearest import nearest, rows_at_once
from latentcmp.measures.row_source import RowSource
from latentcmp.ops.gram_spectra import gram_spectra
from latentcmp.systems.folds import two_folds


def local_errors(
    x_train: Tensor,
    x_test: Tensor,
    targets: Sequence[tuple[Tensor, Tensor]],
    n_local_points: int,
    *,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    batch_size: int | None = None,
) -> list[Tensor]:
    """Row errors of local maps; the neighbours and factors of the source are shared by all targets.

    For each test row x: take the k nearest rows of `x_train` (Euclidean), centre both sides by their own means, fit W,
    predict ybar + (x - xbar) W (Goscinski et al., MLST 2, 025028 (2021)).

    Args:
        x_train: [n_train, D_X] float64, scaled.
        x_test: [n_test, D_X], scaled alike.
        targets: y_train [n_train, D_Y] and y_test [n_test, D_Y] of each target, scaled.
        n_local_points: k.
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: relative strengths; None for the default grid.
        batch_size: test rows searched and solved at once on each core; memory grows with it, and beyond it only with
            n_test * k. None for as many as fit in about 64 MiB, on a GPU in 1 GiB. Neighbours are the same for any
            batch size, errors up to rounding.

    Returns:
        [n_test] float64 for each target.

    Raises:
        InputError: k is below 2 or above n_train, or the solver or the strengths are not valid.
    """
    check_local_points(n_local_points, len(x_train))
    neighbours = nearest(x_train, x_test, n_local_points, batch_size)
    return errors_of_neighbours(
        x_train, x_test, targets, neighbours, solver=solver, alphas=alphas, batch_size=batch_size
    )


def errors_of_neighbours(
    x_train: Tensor,
    x_test: Tensor,
    targets: Sequence[tuple[Tensor, Tensor]],
    neighbours: Tensor,
    *,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    batch_size: int | None = None,
) -> list[Tensor]:
    """`local_errors` with given neighbours: positions [n_test, k] int64 of training rows."""
    rules = TwoFoldCV.of(solver, alphas, x_train.device)
    errors_of = _cutoff_errors if solver == "cutoff" else _ridge_errors
    step = batch_size or rows_at_once(_numbers(neighbours.shape[1], x_train, targets, solver), x_train.device)

    def solve(start: int) -> list[Tensor]:
        rows = slice(start, start + step)
        batch = [(y_train, y_test[rows]) for y_train, y_test in targets]
        return errors_of(x_train, x_test[rows], batch, neighbours[rows], rules)

    parts = map_over_cores(solve, range(0, len(x_test), step), x_train.device)
    return [torch.cat([part[t] for part in parts]) for t in range(len(targets))]


def _numbers(k: int, x_train: Tensor, targets: Sequence[tuple[Tensor, Tensor]], solver: Solver) -> int:
    """Numbers held for one test row: source rows, their inner products and factors; copies of target rows."""
    if solver == "cutoff":
        return k * (2 * x_train.shape[1] + 5 * k)
    return 6 * k * (x_train.shape[1] + max(y.shape[1] for y, _ in targets))


def check_local_points(n_local_points: int, n_train: int) -> None:
    """Raise InputError unless `n_local_points` is an integer with 2 <= n_local_points <= n_train."""
    if not isinstance(n_local_points, int | np.integer) or not 2 <= n_local_points <= n_train:
        raise InputError(
            f"n_local_points is {n_local_points!r}, but it must be an integer between 2 and the number of training "
            f"rows, {n_train}; give fewer local points or more training rows"
        )


def _ridge_errors(
    x_train: Tensor, x_test: Tensor, targets: Sequence[tuple[Tensor, Tensor]], rows: Tensor, rules: TwoFoldCV
) -> list[Tensor]:
    """Errors of every target by a fit to the rows of each neighbourhood, rows [m, k]."""
    x, x_mean = _centred(x_train[rows])
    query, errors, factors = x_test[:, None, :] - x_mean, [], None
    for y_train, y_test in targets:
        y, y_mean = _centred(y_train[rows])
        source = RowSource.of_rows(x, y)
        factors = factors or [source.factorise(source.matrix(parts)) for parts in FITTED]
        fitted = fit_map(source, factors, [y.shape[-1]], source.fold_sizes, rules)
        errors.append((y_test - (y_mean + fitted.predict(query))[:, 0]).norm(dim=1))
    return errors


def _cutoff_errors(
    x_train: Tensor, x_test: Tensor, targets: Sequence[tuple[Tensor, Tensor]], rows: Tensor, rules: TwoFoldCV
) -> list[Tensor]:
    """The same for the cutoff by Gram matrices; the rows of the targets are never gathered."""
    first, second = two_folds(rows.shape[1])
    rows = rows[:, torch.from_numpy(np.concatenate([first, second])).to(rows.device)]
    near = gram_spectra(x_train, rows, len(first))
    folds = LocalFolds(near, rows, rules.alphas)
    strengths = torch.stack([folds.strength(y_train) for y_train, _ in targets], 1)
    weights = local_weights(near, x_test, strengths)
    weights += (1 - weights.sum(-1, keepdim=True)) / rows.shape[1]  # the rest is the mean of the neighbours
    return [
        (y_test - embedding_bag(rows, y_train, per_sample_weights=weights[:, t].contiguous(), mode="sum")).norm(dim=1)
        for t, (y_train, y_test) in enumerate(targets)
    ]


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(-2, keepdim=True)
    return rows - mean, mean
