"""Information imbalance: how well the nearest neighbours in one feature matrix are the nearest in another."""

from typing import overload

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.matrices import Matrix, like, paired
from latentcmp.measures.nearest import leave_out_groups, nearest_by_scores, ranks_by_scores, scores_of_block
from latentcmp.measures.neighbour_lists import Groups, group_codes, rows_of_block, sampled


@overload
def information_imbalance(X: Tensor, Y: Tensor, *, k: int = ..., groups: Groups | None = ...) -> Tensor: ...


@overload
def information_imbalance(X: np.ndarray, Y: np.ndarray, *, k: int = ..., groups: Groups | None = ...) -> np.float64: ...


def information_imbalance(X: Matrix, Y: Matrix, *, k: int = 1, groups: Groups | None = None) -> Tensor | np.float64:
    """Information imbalance from X to Y: near 0 where distances in X predict those in Y, about 1 where they do not.

    2 / (n^2 k) sum_i sum_j r_Y(i, j) over the k rows j nearest to row i in X, where r_Y(i, j) is the rank of row j by
    distance from row i in Y, 1 for the nearest (Glielmo et al., PNAS Nexus 1, pgac039 (2022), eq. 1). Euclidean, ties
    in row order. It is not symmetric: see `information_imbalance(Y, X)`.

    Args:
        X: [n, D_X], a tensor or an array.
        Y: [n, D_Y], of the same kind.
        k: the number of neighbours.
        groups: [n] labels; rows with the label of row i are neither its neighbours nor ranked, so that with large
            groups the values of unrelated matrices are below 1. None: all rows but itself are.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: the matrices do not hold the same finite rows, or a row has fewer than k rows outside its group.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> print(round(similarity.information_imbalance(x, x[:, :1]), 2))
        0.1
        >>> print(round(similarity.information_imbalance(x[:, :1], x), 2))
        0.57
    """
    value: Tensor | np.float64 = like(X, information_imbalances(sampled(paired(X, Y), groups), k)[0, 1])
    return value


def information_imbalances(sample: SampledMatrices, k: int = 1) -> Tensor:
    """`information_imbalance` of all ordered pairs of matrices: [n_names, n_names] float64, sources in rows."""
    codes, matrices = group_codes(sample, k, "information imbalance"), list(sample.values.values())
    n, norms = len(codes), [torch.linalg.vecdot(rows, rows) for rows in matrices]
    size = rows_of_block(n, len(matrices), codes.device)

    def ranks(start: int) -> Tensor:
        return _ranks_of_block(matrices, norms, codes, slice(start, start + size), k)

    total = torch.stack(map_over_cores(ranks, range(0, n, size), codes.device)).sum(0)
    return 2 * total.double() / (n * n * k)


def _ranks_of_block(matrices: list[Tensor], norms: list[Tensor], codes: Tensor, block: slice, k: int) -> Tensor:
    """Sums [n_names, n_names] (int64) of the ranks in each matrix (column) of the neighbours in each (row)."""
    scores = [scores_of_block(rows, of_rows, rows[block]) for rows, of_rows in zip(matrices, norms, strict=True)]
    for of_matrix in scores:
        leave_out_groups(of_matrix, codes, codes[block])
    searches = list(zip(scores, matrices, norms, [rows[block] for rows in matrices], strict=True))
    sums = torch.empty(len(matrices), len(matrices), dtype=torch.int64, device=codes.device)
    for i, near in enumerate([nearest_by_scores(*search, k) for search in searches]):
        for j, search in enumerate(searches):
            ranks = [ranks_by_scores(*search, positions) for positions in near.unbind(1)] if i != j else []
            sums[i, j] = torch.stack(ranks).sum() if ranks else len(near) * k * (k + 1) // 2  # 1 to k in itself
    return sums
