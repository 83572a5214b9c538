"""Local reconstruction: a linear map of its own for every test row, from its nearest training rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, TwoFoldPath, checked_alphas
from latentcmp.measures.local_cutoff import LocalFolds, local_weights
from latentcmp.measures.nearest import nearest, rows_at_once
from latentcmp.ops.gram_spectra import gram_spectra
from latentcmp.statistics.compressed import Folds
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
    """Row errors [n_test] of every target (y_train, y_test), the neighbour maps shared by all of them.

    Scaled float64 rows in. For each test row x: the k nearest rows of x_train (Euclidean), both sides centred
    by their own means, prediction ybar + (x - xbar) W with W from `TwoFoldPath`. Goscinski et al., MLST 2,
    025028 (2021). `batch_size` test rows are searched and solved at once on each core (default: as many as
    fit in about 64 MiB, on a GPU in 1 GiB); the memory grows with it, and beyond it only with n_test * k. Neighbours
    are the same for any batch size, errors the same up to rounding.
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
    """`local_errors` where the training rows near each test row are known: their positions [n_test, k]."""
    grid = checked_alphas(alphas)
    step = batch_size or rows_at_once(
        _neighbourhood(neighbours.shape[1], x_train.shape[1], targets, solver), x_train.device
    )

    def solve(start: int) -> list[Tensor]:
        rows = slice(start, start + step)
        batch = [(y_train, y_test[rows]) for y_train, y_test in targets]
        if solver == "cutoff":
            return _cutoff_errors(x_train, x_test[rows], batch, neighbours[rows], grid)
        return _path_errors(x_train, x_test[rows], batch, neighbours[rows], grid, solver)

    parts = map_over_cores(solve, range(0, len(x_test), step), x_train.device)
    return [torch.cat([part[t] for part in parts]) for t in range(len(targets))]


def _neighbourhood(k: int, width: int, targets: Sequence[tuple[Tensor, Tensor]], solver: Solver) -> int:
    """Numbers held for one test row: source rows, their inner products and factors; copies of target rows."""
    if solver == "cutoff":
        return k * (2 * width + 5 * k)
    return 6 * k * (width + max(y.shape[1] for y, _ in targets))


def check_local_points(n_local_points: int, n_train: int) -> None:
    """Raise InputError unless 2 <= n_local_points <= n_train."""
    if not isinstance(n_local_points, int | np.integer) or not 2 <= n_local_points <= n_train:
        raise InputError(
            f"n_local_points is {n_local_points!r}, but it must be an integer between 2 and the number of training "
            f"rows, {n_train}; give fewer local points or more training rows"
        )


def _path_errors(
    x_train: Tensor,
    x_test: Tensor,
    targets: Sequence[tuple[Tensor, Tensor]],
    rows: Tensor,
    alphas: np.ndarray,
    solver: Solver,
) -> list[Tensor]:
    """Errors of every target by `TwoFoldPath`, for neighbours rows [m, k]."""
    x, x_mean = _centred(x_train[rows])
    path = TwoFoldPath(Folds.of_rows(x), solver, alphas)
    query = x_test[:, None, :] - x_mean
    errors = []
    for y_train, y_test in targets:
        y, y_mean = _centred(y_train[rows])
        errors.append((y_test - (y_mean + path.predict(query, Folds.of_rows(y)))[:, 0]).norm(dim=1))
    return errors


def _cutoff_errors(
    x_train: Tensor, x_test: Tensor, targets: Sequence[tuple[Tensor, Tensor]], rows: Tensor, alphas: np.ndarray
) -> list[Tensor]:
    """The same for the cutoff by Gram matrices; rows of the targets are read where they are, never gathered."""
    first, second = two_folds(rows.shape[1])
    rows = rows[:, torch.from_numpy(np.concatenate([first, second])).to(rows.device)]
    near = gram_spectra(x_train, rows, len(first))
    folds = LocalFolds(near, rows, torch.from_numpy(alphas).to(x_train))
    strengths = torch.stack([folds.strength(y_train) for y_train, _ in targets], 1)
    weights = local_weights(near, x_test, strengths)
    weights += (1 - weights.sum(-1, keepdim=True)) / rows.shape[1]  # the mean of the neighbours, with the rest
    return [
        (y_test - embedding_bag(rows, y_train, per_sample_weights=weights[:, t].contiguous(), mode="sum")).norm(dim=1)
        for t, (y_train, y_test) in enumerate(targets)
    ]


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(-2, keepdim=True)
    return rows - mean, mean
