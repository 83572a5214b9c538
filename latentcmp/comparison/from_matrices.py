"""Feature matrices at hand to errors between all ordered pairs of them; no model, no structure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.versions import versions
from latentcmp.comparison.pairwise import accumulated, pairwise_level
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.measure import MeasureOptions
from latentcmp.measures.registry import DEFAULT_MEASURES, check_measures
from latentcmp.metrics import as_matrix, checked_split
from latentcmp.statistics.accumulator import Labels, Limits, RowAccumulator
from latentcmp.statistics.row_sample import row_keys
from latentcmp.systems.folds import parts_of
from latentcmp.systems.split import rows_by_group

_CHUNK = 8192


def compare_features(
    features: Mapping[str, Tensor | np.ndarray],
    test_idx: Any = None,
    train_idx: Any = None,
    groups: Sequence[Any] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    n_local_points: int | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    local_train_rows: int = Limits.train,
    local_test_rows: int = Limits.test,
) -> Comparison:
    """Errors between feature matrices at hand, {name: [n, D]}, which hold the same rows; no model is run.

    Tensors stay on their device. `test_idx` and `train_idx` are as in `latentcmp.metrics`, and with the same split
    the entries are those of its functions. `groups` [n] instead sends all rows of a group (a structure, a parent, a
    trajectory) to one side by a keyed hash of its label. `measures` are of "gfre", "gfrd", "lfre"; `n_local_points`
    is the k of LFRE, by default min(D_X, D_Y) and at most the training rows. Global errors are of all rows; local ones,
    and the intervals, of at most `local_train_rows` and `local_test_rows` rows with the smallest hashes, so that memory
    beyond the matrices does not grow with their rows. Raises InputError.
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
    gathered = gather_rows(matrices, train, test, Limits(local_train_rows, local_test_rows))
    level = pairwise_level(accumulated(gathered, options, labels.__getitem__), measures, options)
    manifest = {"versions": versions(), "solver": solver, "alphas": options.alphas.tolist()}
    return Comparison(tuple(matrices), level, manifest=manifest)


def gather_rows(matrices: Mapping[str, Tensor], train: np.ndarray, test: np.ndarray, limits: Limits) -> RowAccumulator:
    """Stream matrices at hand through the statistics, chunk by chunk; their structures are the numbers of the rows."""
    rows, n_train = np.concatenate([train, test]), len(train)
    part = parts_of(np.arange(len(rows)) >= n_train)
    keys = row_keys(["rows"], [len(rows)])
    widths = {name: values.shape[1] for name, values in matrices.items()}
    device = next(iter(matrices.values())).device
    gathered = RowAccumulator(widths, -(-len(rows) // _CHUNK), limits)
    for block, start in enumerate(range(0, len(rows), _CHUNK)):
        chunk = slice(start, start + _CHUNK)
        index = torch.from_numpy(rows[chunk]).to(device)
        labels = Labels(part[chunk], keys[chunk], np.arange(len(rows))[chunk], rows[chunk])
        gathered.add(block, {name: values[index] for name, values in matrices.items()}, labels)
    return gathered


def _labels(groups: Sequence[Any]) -> list[str]:
    return [str(label.item() if hasattr(label, "item") else label) for label in groups]
