"""The groups and the order of rows without a name: by their labels, or by their values rounded to three digits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.row_keys import row_keys

DECIMALS = 3  # of a projection in units of its spread: noise of float32 features moves one row in thousands


@dataclass(frozen=True)
class RowOrder:
    """Groups, and an order that depends on the groups and the values of rows, not on their positions.

    Attributes:
        groups: [n] labels of groups.
        keys: `row_keys` [n, 3], by which a sample is chosen.
        rank: [n] position of each row in the order of its key.
    """

    groups: list[str]
    keys: np.ndarray
    rank: np.ndarray

    @classmethod
    def of(cls, matrices: Mapping[str, Tensor], groups: Sequence[Any] | None, seed: int) -> "RowOrder":
        """Order rows of matrices [n, D] by the hash of their group and by their values.

        Raises:
            InputError: there is not one label a row.
        """
        n = len(next(iter(matrices.values())))
        if groups is not None and len(groups) != n:
            raise InputError(f"groups must hold one label a row, got {len(groups)} labels for {n} rows")
        values = _projection(matrices)
        labels = [f"{value:.{DECIMALS}f}" for value in values] if groups is None else [_text(of) for of in groups]
        order = np.lexsort((values, np.array(labels)))
        names, counts = np.unique(labels, return_counts=True)  # names in the order of lexsort
        keys = np.empty((n, 3), dtype=np.uint64)
        keys[order] = row_keys(names.tolist(), counts, seed)
        rank = np.empty(n, dtype=np.int64)
        rank[np.lexsort(keys.T[::-1])] = np.arange(n)
        return cls(labels, keys, rank)


def _projection(matrices: Mapping[str, Tensor]) -> np.ndarray:
    """A sum over matrices of their rows along a fixed pseudo-random direction, in units of the spread: [n]."""
    total = torch.zeros(len(next(iter(matrices.values()))), dtype=torch.float64)
    for values in matrices.values():
        direction = torch.from_numpy(np.random.default_rng(values.shape[1]).normal(size=values.shape[1]))
        along = (values.double() @ direction.to(values.device)).cpu()
        spread = along.std(correction=0)
        total += (along - along.mean()) / torch.where(spread > 0, spread, 1.0)
    return total.numpy()


def _text(label: Any) -> str:
    return str(label.item() if hasattr(label, "item") else label)
