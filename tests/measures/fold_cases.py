"""Rows in folds of groups, and errors written out with NumPy."""

import numpy as np
import torch

from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.folds import two_folds
from latentcmp.systems.group_folds import GroupFolds, block_of_groups

N_GROUPS = 60
FOLDS = GroupFolds.of(N_GROUPS)


def matrices(seed: int = 0, n_groups: int = N_GROUPS) -> dict[str, np.ndarray]:
    """Three matrices of ten rows a group with falling spectra, far from the origin."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_groups, 1, 12)) + 0.5 * rng.normal(size=(n_groups, 10, 12))
    rows = latent.reshape(-1, 12)
    return {
        name: np.tanh(rows @ rng.normal(size=(12, d))) * np.geomspace(1, 1e-3, d) + 3
        for name, d in (("a", 8), ("b", 6), ("c", 10))
    }


def blocks(n_groups: int = N_GROUPS) -> np.ndarray:
    """The block of each row."""
    return block_of_groups(np.repeat(np.arange(n_groups), 10).tolist(), FOLDS.n_blocks)


def block_moments(rows: dict[str, np.ndarray], block: np.ndarray) -> PartMoments:
    """Moments of the blocks."""
    tensors = {name: torch.from_numpy(values) for name, values in rows.items()}
    return PartMoments.of(JointStatistics.of(tensors, torch.from_numpy(block), "gram", FOLDS.n_blocks).compute())


def fitted(x: np.ndarray, y: np.ndarray, t: float, solver: str) -> np.ndarray:
    """The map of centred rows at a strength relative to the largest singular value."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    inverse = s / (s**2 + (t * s[0]) ** 2) if solver == "ridge" else np.where(s > t * s[0], 1 / s, 0)
    mapped: np.ndarray = vt.T @ (inverse[:, None] * (u.T @ y))
    return mapped


def row_squares(x: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: np.ndarray, solver: str) -> np.ndarray:
    """Squared errors [n] of all rows, each tested once, in units of the spread of the training rows."""
    squares = np.empty(len(x))
    for tested in np.unique(fold):
        train = fold != tested
        losses = np.zeros(len(grid))
        for held in np.unique(fold[train]):
            a, b = train & (fold != held), fold == held
            mx, my = x[a].mean(0), y[a].mean(0)
            for i, t in enumerate(grid):
                w = fitted(x[a] - mx, y[a] - my, t, solver)
                losses[i] += ((y[b] - my - (x[b] - mx) @ w) ** 2).sum()
        mx, my = x[train].mean(0), y[train].mean(0)
        w = fitted(x[train] - mx, y[train] - my, grid[losses.argmin()], solver)
        spread = ((y[train] - my) ** 2).sum(1).mean()
        test = fold == tested
        squares[test] = ((y[test] - my - (x[test] - mx) @ w) ** 2).sum(1) / spread
    return squares


def local_row_squares(x: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: np.ndarray, k: int) -> np.ndarray:
    """Squared errors [n] of all rows, each tested once, by ridge maps of its k nearest training rows."""
    squares = np.empty(len(x))
    for tested in np.unique(fold):
        train, test = fold != tested, np.flatnonzero(fold == tested)
        a, b = (
            (rows - rows[train].mean(0)) / ((rows[train] - rows[train].mean(0)) ** 2).sum(1).mean() ** 0.5
            for rows in (x, y)
        )
        for row in test:
            near = np.argsort(((a[train] - a[row]) ** 2).sum(1), kind="stable")[:k]
            squares[row] = _local_square(a[train][near], b[train][near], a[row], b[row], grid)
    return squares


def _local_square(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, grid: np.ndarray) -> float:
    a, b = x - x.mean(0), y - y.mean(0)
    first, second = two_folds(len(x))
    losses = np.zeros(len(grid))
    for fitted_on, held in ((first, second), (second, first)):
        u, s, vt = np.linalg.svd(a[fitted_on], full_matrices=False)
        along, products = a[held] @ vt.T, u.T @ b[fitted_on]
        for i, t in enumerate(grid):
            losses[i] += ((b[held] - along * (s / (s**2 + (t * s[0]) ** 2)) @ products) ** 2).sum()
    w = fitted(a, b, grid[losses.argmin()], "ridge")
    square: float = ((y_test - y.mean(0) - (x_test - x.mean(0)) @ w) ** 2).sum()
    return square
