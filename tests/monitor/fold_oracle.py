"""Errors of rows in five folds of groups, with NumPy and scikit-learn."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from latentcmp.systems.group_folds import block_of_groups
from tests.measures.fold_cases import fitted, row_squares

GLOBAL, LOCAL = np.geomspace(1e-5, 0.9, 10), np.geomspace(1e-2, 0.9, 10)
SEED = 0x5F3759DF


def folds(groups: Sequence[object]) -> np.ndarray:
    """The fold of each row."""
    return block_of_groups(groups, 5)


def global_squares(x: torch.Tensor, y: torch.Tensor, fold: np.ndarray) -> np.ndarray:
    """Squared errors [n] of global maps."""
    return row_squares(x.double().numpy(), y.double().numpy(), fold, GLOBAL, "ridge")


def global_error(x: torch.Tensor, y: torch.Tensor, fold: np.ndarray) -> float:
    """GFRE of all rows."""
    return float(np.sqrt(global_squares(x, y, fold).mean()))


def local_error(x: torch.Tensor, y: torch.Tensor, fold: np.ndarray) -> float:
    """LFRE of all rows, with the smaller width as number of neighbours."""
    k, squares = min(x.shape[1], y.shape[1]), []
    for tested in np.unique(fold):
        train, test = fold != tested, fold == tested
        (a, b), (c, d) = (_scaled(rows.double().numpy(), train, test) for rows in (x, y))
        near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(a).kneighbors(b, return_distance=False)
        squares += [_local_square(a[rows], c[rows], *query) for rows, *query in zip(near, b, d, strict=True)]
    return float(np.sqrt(np.mean(squares)))


def _scaled(rows: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = rows - rows[train].mean(0)
    scale = np.sqrt((centred[train] ** 2).sum(1).mean())
    return centred[train] / scale, centred[test] / scale


def _local_square(x: np.ndarray, y: np.ndarray, query: np.ndarray, expected: np.ndarray) -> float:
    x_mean, y_mean = x.mean(0), y.mean(0)
    a, b, losses = x - x_mean, y - y_mean, np.zeros(len(LOCAL))
    for inner, held in KFold(2, shuffle=True, random_state=SEED).split(a):
        for i, t in enumerate(LOCAL):
            losses[i] += ((b[held] - a[held] @ fitted(a[inner], b[inner], t, "ridge")) ** 2).sum()
    weights = fitted(a, b, LOCAL[losses.argmin()], "ridge")
    return float(((expected - y_mean - (query - x_mean) @ weights) ** 2).sum())
