"""Local reconstruction: a linear map of its own for every test row, from its nearest training rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp._settings import map_over_cores
from latentcmp.errors import InputError
from latentcmp.reconstruction.solvers import Folds, Solver, TwoFoldPath

_BATCH_BYTES = 64 << 20


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
    025028 (2021). `batch_size` test rows are solved at once (default: as many as fit in about 64 MiB).
    """
    check_local_points(n_local_points, len(x_train))
    widest = x_train.shape[1] + max(y.shape[1] for y, _ in targets)
    step = batch_size or _rows_at_once(len(x_train), n_local_points * widest)

    def solve(start: int) -> list[Tensor]:
        rows = slice(start, start + step)
        batch = [(y_train, y_test[rows]) for y_train, y_test in targets]
        return _solve_batch(x_train, x_test[rows], batch, n_local_points, solver, alphas)

    parts = map_over_cores(solve, range(0, len(x_test), step), x_train.device)
    return [torch.cat([part[t] for part in parts]) for t in range(len(targets))]


def _rows_at_once(n_train: int, neighbourhood: int) -> int:
    """Test rows whose distances (3 copies) and neighbourhoods (6 copies) each fit in the memory of a batch."""
    return max(1, min(512, _BATCH_BYTES // (6 * 8 * neighbourhood), _BATCH_BYTES // (3 * 8 * n_train)))


def check_local_points(n_local_points: int, n_train: int) -> None:
    """Raise InputError unless 2 <= n_local_points <= n_train."""
    if not isinstance(n_local_points, int | np.integer) or not 2 <= n_local_points <= n_train:
        raise InputError(
            f"n_local_points is {n_local_points!r}, but it must be an integer between 2 and the number of training "
            f"rows, {n_train}; give fewer local points or more training rows"
        )


def nearest(x_train: Tensor, x_test: Tensor, k: int) -> Tensor:
    """Positions [n_test, k] of the k nearest training rows, nearest first, exact ties in row order."""
    distance = x_train.square().sum(1) + x_test.square().sum(1)[:, None] - 2 * x_test @ x_train.T
    kth = distance.kthvalue(k, dim=1, keepdim=True).values
    closer, tied = distance < kth, distance == kth
    room = k - closer.sum(1, keepdim=True)
    chosen = closer | (tied & (tied.cumsum(1) <= room))
    rows = chosen.nonzero()[:, 1].reshape(len(x_test), k)
    return rows.gather(1, distance.gather(1, rows).argsort(dim=1, stable=True))


def _solve_batch(
    x_train: Tensor,
    x_test: Tensor,
    targets: Sequence[tuple[Tensor, Tensor]],
    k: int,
    solver: Solver,
    alphas: np.ndarray | None,
) -> list[Tensor]:
    rows = nearest(x_train, x_test, k)
    x, x_mean = _centred(x_train[rows])
    path = TwoFoldPath(Folds.of_rows(x), solver, alphas)
    query = x_test[:, None, :] - x_mean
    errors = []
    for y_train, y_test in targets:
        y, y_mean = _centred(y_train[rows])
        errors.append((y_test - (y_mean + path.predict(query, Folds.of_rows(y)))[:, 0]).norm(dim=1))
    return errors


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(-2, keepdim=True)
    return rows - mean, mean
