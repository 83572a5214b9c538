"""Intervals of global errors: maps fitted again without each block, against rows in NumPy; their coverage."""

import numpy as np
import pytest
import torch
from scipy import stats

from latentcmp.measures.fold_maps import FoldMaps, fit_folds
from latentcmp.measures.jackknife import T_95, delete_blocks, interval
from latentcmp.measures.strength_search import FoldRules
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import leave_one_out
from tests.measures.fold_cases import FOLDS, block_moments, blocks, matrices

RULES = FoldRules.of("ridge", None, torch.device("cpu"))


def fits(moments: PartMoments, sources: list[str] | None = None) -> list[FoldMaps]:
    return list(fit_folds(moments.joined(FOLDS.blocks), leave_one_out(5), RULES, sources))


def refitted(x: np.ndarray, y: np.ndarray, fold: np.ndarray, kept: np.ndarray, penalties: list[float]) -> float:
    """The error over the rows that are kept, with the penalty of each fold a row held."""
    total, n = 0.0, 0
    for tested, penalty in enumerate(penalties):
        train, test = (fold != tested) & kept, (fold == tested) & kept
        a, b = x[train] - x[train].mean(0), y[train] - y[train].mean(0)
        w = np.linalg.solve(a.T @ a / len(a) + penalty * np.eye(a.shape[1]), a.T @ b / len(a))
        residual = y[test] - y[train].mean(0) - (x[test] - x[train].mean(0)) @ w
        total += (residual**2).sum() / (b**2).sum(1).mean()
        n += test.sum()
    return float((total / n) ** 0.5)


def test_maps_are_fitted_again_without_each_block() -> None:
    rows, block = matrices(), blocks()
    moments = block_moments(rows, block)
    maps, fold = fits(moments), np.array(FOLDS.fold_of_block)[block]
    deleted = [delete_blocks(of_fold, moments, FOLDS.blocks) for of_fold in maps]
    squares, counts = sum(of.squares for of in deleted), sum(of.counts for of in deleted)
    assert isinstance(squares, torch.Tensor)
    for i, j, x, y in ((0, 1, "a", "b"), (2, 0, "c", "a")):
        spreads = [((rows[x][fold != o] - rows[x][fold != o].mean(0)) ** 2).sum(1).mean() for o in range(5)]
        n = [(fold != o).sum() for o in range(5)]
        penalties = [
            float(of.penalties[x][j]) * s / m for of, s, m in zip(maps, spreads, n, strict=True)
        ]  # of a row, in the unit of the source
        expected = [refitted(rows[x], rows[y], fold, block != b, penalties) for b in range(20)]
        np.testing.assert_allclose((squares[:, i, j] / counts).sqrt(), expected, rtol=1e-9)


def test_the_interval_is_that_of_logarithms() -> None:
    moments = block_moments(matrices(), blocks())
    maps = fits(moments)
    deleted = [delete_blocks(of_fold, moments, FOLDS.blocks) for of_fold in maps]
    squares, counts = (sum(getattr(of, name) for of in deleted) for name in ("squares", "counts"))
    logs = np.log((squares[:, 0, 1] / counts).sqrt().numpy())
    value = (sum(of.squares() for of in maps) / len(blocks())).sqrt()
    low, high = interval(value, deleted)
    half = stats.t.ppf(0.95, 19) * np.sqrt(19 / 20 * ((logs - logs.mean()) ** 2).sum())
    expected = value[0, 1] * np.exp([-half, half])
    np.testing.assert_allclose([low[0, 1], high[0, 1]], expected, rtol=1e-4)


def test_quantiles_are_those_of_student() -> None:
    np.testing.assert_allclose(T_95, stats.t.ppf(0.95, np.arange(1, 20)), atol=5e-5)


DX, DY, ROWS = 8, 6, slice(2, 20)


def sample(n_groups: int, rng: np.random.Generator, maps: list[np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of groups that share a centre and a bias, two structures of 2 to 19 atoms each."""
    centre, bias = rng.normal(size=(n_groups, DX)), 0.5 * rng.normal(size=(n_groups, DY))
    group = np.repeat(np.arange(n_groups), rng.integers(ROWS.start, ROWS.stop, n_groups) * 2)
    x = (centre[group] + 0.5 * rng.normal(size=(len(group), DX))) * np.geomspace(1, 0.05, DX)
    noise = 0.2 * rng.normal(size=(len(group), DY))
    return {"x": x, "y": x @ maps[0] + 0.4 * np.tanh(2 * x) @ maps[1] + bias[group] + noise}, group


@pytest.mark.slow
def test_a_90_percent_interval_covers_about_90_percent() -> None:
    """Coverage of the mean error of samples of this size, 120 samples; the binomial standard deviation is 0.03."""
    maps = [np.random.default_rng(1).normal(size=(DX, DY)) for _ in range(2)]
    values, ends = [], []
    for repeat in range(120):
        rng = np.random.default_rng(1000 + repeat)
        rows, group = sample(300, rng, maps)
        moments = block_moments(rows, (rng.permutation(300) * 20 // 300)[group])
        of_folds = fits(moments, ["x"])
        value = (sum(of.squares() for of in of_folds) / len(group)).sqrt()
        low, high = interval(value, [delete_blocks(of, moments, FOLDS.blocks) for of in of_folds])
        values.append(float(value[0, 1]))
        ends.append((float(low[0, 1]), float(high[0, 1])))
    mean = np.mean(values)
    covered = np.mean([low <= mean <= high for low, high in ends])
    assert 0.82 <= covered <= 0.97
    width = np.mean([high - low for low, high in ends])
    assert 0.7 < width / (2 * stats.t.ppf(0.95, 19) * np.std(values)) < 1.4
