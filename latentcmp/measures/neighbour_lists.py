"""Input of measures of neighbours: rows with their groups, and the nearest rows of other groups."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.nearest import nearest, rows_at_once

Groups: TypeAlias = Tensor | np.ndarray | Sequence[int] | Sequence[str]

_CACHED = 1 << 20  # scores of a block, 8 MiB: near the caches of a CPU's core


def sampled(matrices: Mapping[str, Tensor], groups: Groups | None = None) -> SampledMatrices:
    """Return checked matrices {name: [n, D]} in float64 with the groups of their rows.

    Args:
        matrices: the matrices.
        groups: [n] labels of any kind; None: each row is a group of its own.

    Raises:
        InputError: there is not one label for each row.
    """
    values = {name: rows.double() for name, rows in matrices.items()}
    n, device = len(next(iter(values.values()))), next(iter(values.values())).device
    if groups is None:
        return SampledMatrices(values, torch.arange(n, device=device))
    labels: Any = groups.detach().cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    if labels.shape != (n,):
        raise InputError(f"groups must hold one label for each of the {n} rows, got shape {labels.shape}")
    return SampledMatrices(values, torch.from_numpy(np.unique(labels, return_inverse=True)[1]).to(device))


def group_codes(sample: SampledMatrices, k: int, measure: str) -> Tensor:
    """Return the groups numbered from 0, on the device of the matrices.

    Raises:
        InputError: k is not a positive integer, or a row has fewer than k rows outside its group.
    """
    if not isinstance(k, int) or k < 1:
        raise InputError(f"k must be an integer of at least 1, got {k!r}")
    n, device = len(sample.groups), next(iter(sample.values.values())).device
    codes: Tensor
    _, codes, counts = sample.groups.to(device).unique(return_inverse=True, return_counts=True)
    largest = int(counts.max()) if n else 0
    if n - largest < k:
        raise InputError(
            f"{measure} needs at least {k} rows outside the group of every row, got {n} rows in {len(counts)} groups, "
            f"the largest of {largest}; give more rows or groups, or a smaller k"
        )
    return codes


def neighbour_lists(sample: SampledMatrices, k: int, measure: str) -> list[Tensor]:
    """Return the positions [n, k] of the k nearest rows of other groups in every matrix, nearest first.

    Args:
        sample: the rows.
        k: the number of neighbours.
        measure: what they are for, in messages.

    Raises:
        InputError: as `group_codes`.
    """
    codes = group_codes(sample, k, measure)
    size = rows_of_block(len(codes), 1, codes.device)
    return [nearest(rows, rows, k, size, (codes, codes)) for rows in sample.values.values()]


def rows_of_block(n: int, n_matrices: int, device: torch.device) -> int:
    """Rows of a block, whose scores against n rows in each of so many matrices are held at once."""
    most = rows_at_once(2 * n * n_matrices, device)
    return min(most, max(1, _CACHED // n)) if device.type == "cpu" else most
