"""Distance correlation: dependence between the pairwise distances of two feature matrices, linear or not."""

from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.matrices import Matrix, like, paired

_BLOCK = 1 << 22  # distances of a matrix that are held at a time: 32 MiB


@overload
def distance_correlation(X: Tensor, Y: Tensor, *, unbiased: bool = ...) -> Tensor: ...


@overload
def distance_correlation(X: np.ndarray, Y: np.ndarray, *, unbiased: bool = ...) -> np.float64: ...


def distance_correlation(X: Matrix, Y: Matrix, *, unbiased: bool = False) -> Tensor | np.float64:
    """Distance correlation of two matrices with the same rows, 0 to 1.

    With the Euclidean distances a of the rows of X and b of those of Y, both double-centred to A and B, it is
    sqrt(sum AB / sqrt(sum AA sum BB)) (Szekely, Rizzo & Bakirov, Ann. Stat. 35, 2769 (2007)). The memory grows with
    the number of rows, not with its square.

    Args:
        X: [n, D_X], a tensor or an array.
        Y: [n, D_Y], of the same kind.
        unbiased: centre by the U-statistic instead and return the squared correlation, which is 0 on average for
            independent rows and can be negative (Szekely & Rizzo, Ann. Stat. 42, 2382 (2014)); needs 4 rows.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: the matrices do not hold the same finite rows, or all rows of one are equal.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.arange(5.0)[:, None]
        >>> print(round(similarity.distance_correlation(x, -x), 6), round(similarity.distance_correlation(x, x**2), 6))
        1.0 0.971695
    """
    pair = paired(X, Y)
    value: Tensor | np.float64 = like(X, distance_correlations(pair, unbiased)[0, 1])
    return value


def distance_correlations(matrices: Mapping[str, Tensor], unbiased: bool = False) -> Tensor:
    """`distance_correlation` of all pairs of matrices {name: [n, D]}: [n_names, n_names] float64."""
    rows = [values.double() for values in matrices.values()]
    n = len(rows[0])
    if n < (4 if unbiased else 2):
        raise InputError(f"distance correlation needs at least {4 if unbiased else 2} rows, got {n}")
    sums = _row_sums(rows)
    for name, total in zip(matrices, sums.sum(1).tolist(), strict=True):
        if not total > 0:
            raise InputError(f"{name} is constant over the {n} rows; give rows that differ, or leave it out")
    products = _products(rows, sums, unbiased)
    norms = products.diagonal().sqrt()
    squared = products / (norms[:, None] * norms)
    return squared if unbiased else squared.clamp(min=0).sqrt()


def _row_sums(rows: Sequence[Tensor]) -> Tensor:
    """Sums over each row of the distance matrix of every matrix: [n_names, n]."""
    sums = torch.zeros(len(rows), len(rows[0]), dtype=torch.float64, device=rows[0].device)
    for start, stop in _blocks(len(rows[0])):
        for total, x in zip(sums, rows, strict=True):
            total[start:stop] = _distances(x[start:stop], x).sum(1)
    return sums


def _products(rows: Sequence[Tensor], sums: Tensor, unbiased: bool) -> Tensor:
    """Inner products of the centred distance matrices of all pairs: [n_names, n_names]."""
    n = len(rows[0])
    means = sums / (n - 2 if unbiased else n)
    grand = sums.sum(1) / ((n - 1) * (n - 2) if unbiased else n * n)
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=sums.device)
    for start, stop in _blocks(n):
        centred = []
        for x, mean, whole in zip(rows, means, grand, strict=True):
            block = _distances(x[start:stop], x) - (mean[start:stop, None] - whole) - mean
            if unbiased:
                block.diagonal(start).zero_()
            centred.append(block.flatten())
        for i, a in enumerate(centred):
            products[i] += torch.stack([a @ b for b in centred])
    return products


def _blocks(n: int) -> list[tuple[int, int]]:
    step = max(1, _BLOCK // n)
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances from differences: by inner products, those of close rows would lose their digits."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
