"""Local reconstruction by ridge maps in dual form: a strength of its own for every test row and target."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import checked_grid
from latentcmp.measures.nearest import rows_at_once
from latentcmp.ops.local_ridge import local_ridge
from latentcmp.systems.folds import two_folds

LEAST_STRENGTH = 1e-6
"""Its square is the relative precision that a float64 Gram matrix leaves."""


def default_local_strengths() -> np.ndarray:
    """Seven strengths from 0.1 to 0.9, relative to the largest singular value of a neighbourhood."""
    return np.geomspace(0.1, 0.9, 7)


def local_ridge_errors(
    x_train: Tensor,
    x_test: Tensor,
    targets: Sequence[tuple[Tensor, Tensor]],
    neighbours: Tensor,
    strengths: object = None,
    batch_size: int | None = None,
) -> list[Tensor]:
    """Row errors of ridge maps from given neighbours; the work on the source is shared by all targets.

    For each test row q: centre the k neighbours x and their targets y by their own means and predict
    ybar + (q - xbar) x' (x x' + t^2 s_max^2 I)^-1 y, s_max the largest singular value of x. The strength t has the
    least squared error, summed over columns, rows and both directions of two folds (`two_folds(k)`); ties go to the
    smallest. See `latentcmp.ops.local_ridge`.

    Args:
        x_train: [n_train, D_X] float64, scaled.
        x_test: [n_test, D_X], scaled alike.
        targets: y_train [n_train, D_Y] and y_test [n_test, D_Y] of each target, scaled.
        neighbours: [n_test, k] int64 positions of training rows, k at least 2.
        strengths: relative strengths in [1e-6, 1); None for `default_local_strengths`.
        batch_size: test rows solved at once on each core. None for an equal share of each core, but no more than fit in
            about 64 MiB, or on a GPU for as many as fit in 1 GiB. Errors are the same for any batch size up to
            rounding.

    Returns:
        [n_test] float64 for each target.

    Raises:
        InputError: the strengths are not valid, or tensors have wrong dtypes, shapes or devices.
    """
    grid = torch.from_numpy(checked_local_strengths(strengths)).to(x_train.device)
    k = _points(neighbours)
    folds = two_folds(k)
    order = torch.from_numpy(np.concatenate(folds)).to(neighbours.device)
    step = batch_size or _step(len(x_test), k, x_train, targets)

    def solve(start: int) -> Tensor:
        rows = slice(start, start + step)
        batch = [(y_train, y_test[rows]) for y_train, y_test in targets]
        return local_ridge(x_train, x_test[rows], neighbours[rows].index_select(1, order), len(folds[0]), batch, grid)

    parts = map_over_cores(solve, range(0, len(x_test), step), x_train.device)
    return list(torch.cat(parts, 1)) if parts else [x_test.new_empty(0) for _ in targets]


def checked_local_strengths(strengths: object = None) -> np.ndarray:
    """Return a grid of relative strengths in ascending order.

    Args:
        strengths: numbers in [1e-6, 1); None for `default_local_strengths`.

    Returns:
        [n_strengths] float64.

    Raises:
        InputError: `strengths` is empty, not 1-D, or holds something else.
    """
    return checked_grid("strengths", default_local_strengths() if strengths is None else strengths, LEAST_STRENGTH)


def _points(neighbours: Tensor) -> int:
    """The number of neighbours of a row."""
    if neighbours.dim() != 2 or neighbours.dtype != torch.int64 or neighbours.shape[1] < 2:
        raise InputError(
            f"neighbours must be [n_test, k] int64 with k of at least 2, got {neighbours.dtype} "
            f"{tuple(neighbours.shape)}"
        )
    return int(neighbours.shape[1])


def _step(n_test: int, k: int, x_train: Tensor, targets: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Test rows solved at once: copies of their source and target rows, inner products and eigenvectors are held."""
    widest = max((y.shape[1] for y, _ in targets), default=0)
    most = rows_at_once(k * (3 * x_train.shape[1] + 3 * widest + 5 * k), x_train.device)
    share = -(-n_test // torch.get_num_threads()) if x_train.device.type == "cpu" else n_test
    return max(1, min(most, share))
