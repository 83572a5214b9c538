"""Feature matrices in memory to the values of measures between all ordered pairs of them; no model, no structure."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata, RowIndices, Strengths
from latentcmp._runtime.versions import versions
from latentcmp.comparison.level_rows import FoldedRows, LevelRows, SplitRows, accumulated
from latentcmp.comparison.pairwise import Pairwise
from latentcmp.comparison.result import Comparison
from latentcmp.comparison.row_order import RowOrder
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
from latentcmp.systems.group_folds import GroupFolds, block_of_groups

_CHUNK = 8192
Matrices = dict[str, Tensor]


def compare_features(
    features: Mapping[str, Tensor | np.ndarray],
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    groups: Sequence[Any] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    n_local_points: int | None = None,
    *,
    numbers: Sequence[int] | np.ndarray | None = None,
    baselines: bool = False,
    preset: Literal["chorna2025"] | None = None,
    solver: Solver | None = None,
    alphas: Strengths | None = None,
    local_alphas: Strengths | None = None,
    seed: int = 0,
    local_train_rows: int = SampleSizes.train,
    local_test_rows: int = SampleSizes.test,
) -> Comparison:
    """Compare feature matrices that hold the same rows; no model is run.

    Rows are tested in five folds of groups, each once, by maps whose strength the other folds choose. With `test_idx`,
    `train_idx` or the preset there is one split of rows, and the recipe is that of `latentcmp.metrics`.

    Global errors and statistics are those of all rows. Where there are more than `local_train_rows` or
    `local_test_rows`, local errors, medians and measures of rows are those of as many rows with the smallest hashes,
    so that the memory beyond the matrices does not grow with their rows.

    Args:
        features: {name: [n, D]}, tensors on one device or arrays.
        test_idx: test rows of one split, as in `latentcmp.metrics`, with the same errors.
        train_idx: training rows of one split, as in `latentcmp.metrics`.
        groups: [n] labels: rows of a group (a structure, a trajectory) are in one fold, by a keyed hash of the label.
            None: every row is its own group, by its values, so that the order of the rows does not matter and equal
            rows are in one fold.
        measures: names in `latentcmp.measures.registry.MEASURES`.
        n_local_points: k of local errors; None for min(D_X, D_Y), at most the training rows, with folds at most 64.
        numbers: [n] atomic numbers of the rows, for errors by element and baselines of elements.
        baselines: whether errors of permuted rows and of elements are computed beside those of the matrices.
        preset: "chorna2025" for one split, that of `latentcmp.metrics` where no rows are given.
        solver: "cutoff" (truncated SVD) or "ridge"; None for "ridge", with one split "cutoff".
        alphas: relative regularisation strengths of the global maps, in [0, 1), with one split of all maps; None for
            the default grid.
        local_alphas: those of the local maps.
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
    if preset not in (None, "chorna2025"):
        raise InputError(f"preset must be 'chorna2025' or None, got {preset!r}")
    check_measures(measures)
    matrices = {str(name): as_matrix(str(name), values) for name, values in features.items()}
    limits = SampleSizes(local_train_rows, local_test_rows)
    if preset or test_idx is not None or train_idx is not None:
        if groups is not None:
            raise InputError("groups make folds; give them, or one split (test_idx, train_idx, preset), not both")
        options = MeasureOptions(n_local_points, solver or "cutoff", checked_alphas(alphas))
        given = _split(matrices, train_idx, test_idx, limits)
    else:
        given, folds = _folded(matrices, groups, numbers, seed, limits)
        grids = (None if given is None else checked_alphas(given) for given in (alphas, local_alphas))
        options = MeasureOptions(n_local_points, solver or "ridge", next(grids), None, folds, next(grids))
    level = Pairwise(given, options).level(measures, baselines)
    return Comparison(tuple(matrices), level, manifest=_manifest(options))


def fits(n_train: int, n_test: int, limits: SampleSizes) -> bool:
    """Whether so many rows are within the limits."""
    return n_train <= limits.train and n_test <= limits.test


def _manifest(options: MeasureOptions) -> Metadata:
    alphas = None if options.alphas is None else options.alphas.tolist()
    folds = {"folds": list(options.folds.fold_of_block)} if options.folds else {}
    return {"versions": versions(), **folds, "solver": options.solver, "alphas": alphas}


def _split(
    matrices: Matrices, train_idx: RowIndices | None, test_idx: RowIndices | None, limits: SampleSizes
) -> LevelRows:
    """Rows of one split: all of them, or a sample."""
    train, test = checked_split(matrices, train_idx, test_idx)
    if fits(len(train), len(test), limits):
        return rows_in_memory(matrices, train, test)
    accumulator = accumulate_rows(matrices, train, test, limits)
    return accumulated(accumulator, accumulator.compute(), None)


def rows_in_memory(matrices: Matrices, train: np.ndarray, test: np.ndarray) -> SplitRows:
    """All rows, scaled; the number of a row stands for its structure."""
    owners = Owners([str(row) for row in test])
    rows = split_rows(matrices, train, test)
    moments = cache(lambda: moments_of(matrices, train, test))
    return SplitRows(rows, owners, moments, len(train), len(test), complete=True)


def moments_of(matrices: Matrices, train: np.ndarray, test: np.ndarray) -> JointMoments:
    """Joint moments of the training and test rows, with the folds of global errors."""
    rows = torch.from_numpy(np.concatenate([train, test])).to(next(iter(matrices.values())).device)
    part = torch.from_numpy(parts_of(np.arange(len(rows)) >= len(train)))
    return JointStatistics.of({name: values[rows] for name, values in matrices.items()}, part).compute()


def accumulate_rows(matrices: Matrices, train: np.ndarray, test: np.ndarray, limits: SampleSizes) -> RowAccumulator:
    """Accumulate the rows of one split chunk by chunk; the number of a row stands for its structure."""
    rows = np.concatenate([train, test])
    part = parts_of(np.arange(len(rows)) >= len(train))
    keys = row_keys(["rows"], [len(rows)])
    labels = RowLabels(part, keys, np.arange(len(rows)), rows, rows, np.zeros_like(rows))
    return _accumulate(matrices, rows, labels, RowAccumulator(_widths(matrices), _n_chunks(len(rows)), limits))


def _folded(
    matrices: Matrices,
    groups: Sequence[Any] | None,
    numbers: Sequence[int] | np.ndarray | None,
    seed: int,
    limits: SampleSizes,
) -> tuple[LevelRows, GroupFolds]:
    """Rows of folds of groups: all of them, or a sample."""
    n = len(next(iter(matrices.values())))
    checked_split(matrices, np.arange(n), np.arange(n))
    order = RowOrder.of(matrices, groups, seed)
    folds = GroupFolds.of(len(set(order.groups)))
    block = block_of_groups(order.groups, folds.n_blocks, seed)
    codes = np.unique(order.groups, return_inverse=True)[1]
    structures = [str(row) for row in range(n)] if groups is None else order.groups
    rows = np.lexsort((order.rank, block))  # by block, then in the order of the keys
    elements = np.zeros(n, dtype=np.int64) if numbers is None else checked_numbers(numbers, n)[rows]
    labels = RowLabels(block[rows], order.keys[rows], np.arange(n), rows, codes[rows], elements)
    if n <= limits.train:
        chosen = {name: values[torch.from_numpy(rows).to(values.device)] for name, values in matrices.items()}
        part = torch.from_numpy(block[rows])
        moments = cache(lambda: JointStatistics.of(chosen, part, "gram", folds.n_blocks).finish())
        named = [structures[row] for row in rows]
        return FoldedRows(_widths(chosen), chosen, labels, named, limits.test, folds, moments, n), folds
    accumulator = RowAccumulator(_widths(matrices), _n_chunks(n), limits, "gram", folds.n_blocks)
    accumulator = _accumulate(matrices, rows, labels, accumulator)
    return accumulated(accumulator, accumulator.compute(), folds, structure=structures.__getitem__), folds


def _accumulate(matrices: Matrices, rows: np.ndarray, labels: RowLabels, accumulator: RowAccumulator) -> RowAccumulator:
    device = next(iter(matrices.values())).device
    for block, start in enumerate(range(0, len(rows), _CHUNK)):
        chunk = slice(start, start + _CHUNK)
        index = torch.from_numpy(rows[chunk]).to(device)
        accumulator.update(block, {name: values[index] for name, values in matrices.items()}, labels.rows(chunk))
    return accumulator


def checked_numbers(numbers: Sequence[int] | np.ndarray, n: int) -> np.ndarray:
    """Return atomic numbers [n] as int64. Raises InputError for anything else."""
    array = np.asarray(numbers)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer) or array.min() < 1 or array.max() > 118:
        raise InputError(f"numbers must hold the atomic number, 1 to 118, of each of {n} rows, got {numbers!r:.80}")
    return array.astype(np.int64)


def _n_chunks(n_rows: int) -> int:
    return -(-n_rows // _CHUNK)


def _widths(matrices: Matrices) -> dict[str, int]:
    return {name: values.shape[1] for name, values in matrices.items()}
