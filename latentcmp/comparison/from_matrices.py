"""Feature matrices in memory to the values of measures between all ordered pairs of them; no model, no structure."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.types import RowIndices, Strengths
from latentcmp._runtime.versions import versions
from latentcmp.comparison.pairwise import LevelInput, accumulated, pairwise_level
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.measures.bootstrap import Owners
from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.inputs import split_rows
from latentcmp.measures.matrices import as_matrix, checked_split
from latentcmp.measures.measure import MeasureOptions
from latentcmp.measures.registry import DEFAULT_MEASURES, check_measures
from latentcmp.statistics.accumulator import RowAccumulator, RowLabels, SampleSizes
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.folds import parts_of
from latentcmp.systems.split import rows_by_group

_CHUNK = 8192


def compare_features(
    features: Mapping[str, Tensor | np.ndarray],
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    groups: Sequence[Any] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    n_local_points: int | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    local_train_rows: int = SampleSizes.train,
    local_test_rows: int = SampleSizes.test,
) -> Comparison:
    """Compare feature matrices that hold the same rows; no model is run.

    Global errors and statistics are those of all rows. Where there are more than `local_train_rows` or
    `local_test_rows`, local errors, intervals and measures of rows are those of as many rows with the smallest hashes,
    so that the memory beyond the matrices does not grow with their rows.

    Args:
        features: {name: [n, D]}, tensors on one device or arrays.
        test_idx: test rows, as in `latentcmp.metrics`; with the same split the errors are those of its functions.
        train_idx: training rows, as in `latentcmp.metrics`.
        groups: [n] labels instead of row numbers: all rows of a group (a structure, a trajectory) go to one side, by a
            keyed hash of its label.
        measures: names in `latentcmp.measures.registry.MEASURES`.
        n_local_points: k of local errors; None for min(D_X, D_Y), at most the training rows.
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: relative regularisation strengths in [0, 1); None for the default grid.
        test_fraction: the fraction of the groups that is tested.
        seed: the key of the hash of groups.
        local_train_rows: the largest number of training rows kept.
        local_test_rows: the largest number of test rows kept.

    Returns:
        The result, with values of the measures in `atoms`.

    Raises:
        InputError: matrices do not hold the same finite rows, or an option is not valid.
    """
    if not isinstance(features, Mapping) or not features:
        raise InputError(f"features must map names to matrices [n, D], got {features!r:.80}")
    check_measures(measures)
    matrices = {str(name): as_matrix(str(name), values) for name, values in features.items()}
    n = len(next(iter(matrices.values())))
    labels = [str(row) for row in range(n)] if groups is None else _labels(groups)
    if groups is not None:
        if test_idx is not None or train_idx is not None:
            raise InputError("groups make the split; give them, or test_idx and train_idx, not both")
        test_idx = rows_by_group(labels, n, test_fraction, seed)
    train, test = checked_split(matrices, train_idx, test_idx)
    options = MeasureOptions(n_local_points, solver, checked_alphas(alphas))
    limits = SampleSizes(local_train_rows, local_test_rows)
    if fits(len(train), len(test), limits):
        given = rows_in_memory(matrices, train, test, labels)
    else:
        given = accumulated(accumulate_rows(matrices, train, test, limits), options, labels.__getitem__)
    level = pairwise_level(given, measures, options)
    manifest = {"versions": versions(), "solver": solver, "alphas": options.alphas.tolist()}
    return Comparison(tuple(matrices), level, manifest=manifest)


def fits(n_train: int, n_test: int, limits: SampleSizes) -> bool:
    """Whether so many rows are within the limits."""
    return n_train <= limits.train and n_test <= limits.test


def rows_in_memory(
    matrices: Mapping[str, Tensor], train: np.ndarray, test: np.ndarray, labels: Sequence[str]
) -> LevelInput:
    """All rows, scaled; `labels` [n] name the structure of each row."""
    owners = Owners([labels[row] for row in test])
    rows = split_rows(matrices, train, test)
    moments = cache(lambda: moments_of(matrices, train, test))
    return LevelInput(rows, owners, moments, len(train), len(test), complete=True)


def moments_of(matrices: Mapping[str, Tensor], train: np.ndarray, test: np.ndarray) -> JointMoments:
    """Joint moments of the training and test rows, with the folds of global errors."""
    device = next(iter(matrices.values())).device
    statistics = JointStatistics({name: values.shape[1] for name, values in matrices.items()}, device=device)
    rows = torch.from_numpy(np.concatenate([train, test])).to(device)
    part = torch.from_numpy(parts_of(np.arange(len(rows)) >= len(train)).astype(np.int64))
    statistics.update({name: values[rows] for name, values in matrices.items()}, part)
    return statistics.compute()


def accumulate_rows(
    matrices: Mapping[str, Tensor], train: np.ndarray, test: np.ndarray, limits: SampleSizes
) -> RowAccumulator:
    """Accumulate rows chunk by chunk; the number of a row stands for its structure."""
    rows, n_train = np.concatenate([train, test]), len(train)
    part = parts_of(np.arange(len(rows)) >= n_train)
    keys = row_keys(["rows"], [len(rows)])
    widths = {name: values.shape[1] for name, values in matrices.items()}
    device = next(iter(matrices.values())).device
    accumulator = RowAccumulator(widths, -(-len(rows) // _CHUNK), limits)
    for block, start in enumerate(range(0, len(rows), _CHUNK)):
        chunk = slice(start, start + _CHUNK)
        index = torch.from_numpy(rows[chunk]).to(device)
        labels = RowLabels(part[chunk], keys[chunk], np.arange(len(rows))[chunk], rows[chunk])
        accumulator.update(block, {name: values[index] for name, values in matrices.items()}, labels)
    return accumulator


def _labels(groups: Sequence[Any]) -> list[str]:
    return [str(label.item() if hasattr(label, "item") else label) for label in groups]
