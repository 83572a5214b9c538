"""The default recipe, five folds of groups and ridge maps, beside the same recipe in NumPy.

The peer is measured on one source with all targets and multiplied by the number of sources. It takes one
eigendecomposition for each set of training rows and all strengths from it. "refitted" adds the fits without each block
of the jackknife, which `compare_features` always makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp import Comparison, compare, compare_features
from latentcmp.features.data import Features
from latentcmp.measures.strength_search import default_strengths
from latentcmp.systems.group_folds import N_BLOCKS, N_FOLDS, block_of_groups

from .run import is_wanted, measure

ROWS_OF_STRUCTURE = 8
MOST_ROWS = 10_000
DOOR, DOOR_LOCAL, STORED = (f"latentcmp {name}" for name in ("folds", "folds, LFRE", "folds, stored features"))
PEER, REFITTED = "NumPy folds", "NumPy folds, refitted"


def run(matrices: Mapping[str, Tensor], options: argparse.Namespace) -> list[dict]:
    """Rows of the table: all pairs, GFRE unless named otherwise; the error is the relative one to the peer."""
    n, width = next(iter(matrices.values())).shape
    groups = [str(row // ROWS_OF_STRUCTURE) for row in range(n)]
    with TemporaryDirectory() as folder:
        calls = {
            name: call for name, call in _calls(matrices, groups, Path(folder)).items() if is_wanted(name, options)
        }
        if n > MOST_ROWS and not options.slow:
            calls = {name: call for name, call in calls.items() if name not in (PEER, REFITTED)}
        values = {name: call() for name, call in calls.items()}
        times = measure(dict(calls), 1 if REFITTED in calls else options.repeat, options.device)
    ms = {name: 1e3 * times[name] * (len(matrices) if name in (PEER, REFITTED) else 1) for name in calls}
    truth = values.get(PEER)
    return [
        {
            "problem": f"Five folds, {len(matrices)} models, {n} x {width}",
            "what": "all pairs, one source measured" if name in (PEER, REFITTED) else "all pairs",
            "name": name,
            "ms": ms[name],
            "over_ours": ms[name] / next(iter(ms.values())),
            "error": abs(values[name] / truth - 1) if truth and name != DOOR_LOCAL else None,
        }
        for name in calls
    ]


def _calls(matrices: Mapping[str, Tensor], groups: list[str], folder: Path) -> dict[str, Callable[[], float]]:
    """The calls by name; each returns the error of matrix 0 to matrix 1."""
    door = partial(compare_features, matrices, groups=groups)
    blocks = block_of_groups(groups, N_BLOCKS)
    doubles = [values.double().cpu().numpy() for values in matrices.values()]
    stored = _stored(matrices, groups, folder)

    def value(call: Callable[..., Comparison], measure: str, **options: object) -> float:
        matrix = getattr(call(measures=(measure,), **options), measure)
        return float(matrix.values[0, 1])

    return {
        DOOR: partial(value, door, "gfre"),
        DOOR_LOCAL: partial(value, door, "lfre", n_local_points=20),
        STORED: partial(value, partial(compare, stored, order=1, baselines="none"), "gfre"),
        PEER: partial(numpy_folds, doubles, blocks),
        REFITTED: partial(numpy_folds, doubles, blocks, refit=True),
    }


def _stored(matrices: Mapping[str, Tensor], groups: list[str], folder: Path) -> list[str]:
    """Write the rows as features of structures of one parent each; returns their addresses."""
    ids = list(dict.fromkeys(groups))
    counts = torch.tensor([groups.count(label) for label in ids])
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    for name, values in matrices.items():
        numbers = torch.ones(len(values), dtype=torch.int64)
        Features(values.cpu(), ptr, ids, numbers, {"name": name, "layer": "last"}).save(folder / name)
    return [f"features:{folder / name}" for name in matrices]


def numpy_folds(matrices: list[np.ndarray], block: np.ndarray, refit: bool = False) -> float:
    """The error of matrix 0 to matrix 1, of all errors of source 0; with `refit` also those without each block."""
    fold, rows, strengths = block * N_FOLDS // N_BLOCKS, np.hstack(matrices), default_strengths()
    starts = np.cumsum([0, *(values.shape[1] for values in matrices[:-1])])
    squares = np.zeros(len(matrices))
    for tested in range(N_FOLDS):
        train, test = fold != tested, fold == tested
        inner = [(train & (fold != held), fold == held) for held in range(N_FOLDS) if held != tested]
        losses = sum(_losses(rows, *parts, starts, strengths) for parts in inner)
        chosen = strengths[np.argmin(losses, 0)]
        squares += _squares(rows, train, test, starts, chosen)
        for left_out in np.unique(block[train]) if refit else ():
            _squares(rows, train & (block != left_out), test, starts, chosen)
    return float(np.sqrt(squares[1] / len(rows)))


class _Fit(NamedTuple):
    """The eigendecomposition of a source on training rows, and what it has in common with all targets."""

    mean: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    along: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, train: np.ndarray, starts: np.ndarray) -> _Fit:
        """Fit rows [n, D], the columns of the source first."""
        mean, source = train.mean(0), slice(0, starts[1])
        centred = train - mean
        gram = centred[:, source].T @ centred
        values, vectors = np.linalg.eigh(gram[:, source])
        spread = np.add.reduceat(np.square(centred).sum(0), starts) / len(train)
        return cls(mean, values, vectors, vectors.T @ gram, spread)


def _losses(
    rows: np.ndarray, train: np.ndarray, held: np.ndarray, starts: np.ndarray, strengths: np.ndarray
) -> np.ndarray:
    """Squared errors [n_strengths, n_targets] of held-out rows."""
    fit, centred = _Fit.of(rows[train], starts), rows[held]
    centred -= fit.mean
    projected = centred[:, : starts[1]] @ fit.vectors
    each = []
    for strength in strengths:
        residual = projected @ (fit.along / (fit.values + strength**2 * fit.values[-1])[:, None])
        residual -= centred
        each.append(np.add.reduceat(np.einsum("ij,ij->j", residual, residual), starts))
    return np.stack(each)


def _squares(
    rows: np.ndarray, train: np.ndarray, test: np.ndarray, starts: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Squared errors [n_targets] of test rows, in units of the spread of training rows."""
    fit, centred = _Fit.of(rows[train], starts), rows[test]
    centred -= fit.mean
    penalties = np.repeat(chosen**2 * fit.values[-1], np.diff([*starts, rows.shape[1]]))
    residual = (centred[:, : starts[1]] @ fit.vectors) @ (fit.along / (fit.values[:, None] + penalties))
    residual -= centred
    return np.add.reduceat(np.einsum("ij,ij->j", residual, residual), starts) / fit.spread
