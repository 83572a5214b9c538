"""Shared neighbours of two feature matrices: mutual nearest neighbours and CKNNA (Huh et al., 2024)."""

from typing import NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.compared_rows import symmetric_values
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.matrices import Matrix, like, paired
from latentcmp.measures.neighbour_lists import Groups, neighbour_lists, sampled
from latentcmp.statistics.augmented import check_spread

K = 10


@overload
def mutual_knn(X: Tensor, Y: Tensor, *, k: int = ..., groups: Groups | None = ...) -> Tensor: ...


@overload
def mutual_knn(X: np.ndarray, Y: np.ndarray, *, k: int = ..., groups: Groups | None = ...) -> np.float64: ...


def mutual_knn(X: Matrix, Y: Matrix, *, k: int = K, groups: Groups | None = None) -> Tensor | np.float64:
    """Mean share of the k nearest neighbours of a row that two matrices agree on, 0 to 1.

    (1 / n k) sum_i |N_X(i) & N_Y(i)|, where N(i) are the k rows nearest to row i (Euclidean, ties in row order) but
    itself (Huh et al., ICML 2024, arXiv 2405.07987). Matrices without relation have about k / n.

    Args:
        X: [n, D_X], a tensor or an array.
        Y: [n, D_Y], of the same kind.
        k: the number of neighbours.
        groups: [n] labels; rows with the label of row i are not its neighbours. None: all rows but itself may be.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: the matrices do not hold the same finite rows, or a row has fewer than k rows outside its group.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
        >>> print(similarity.mutual_knn(x, x**2, k=1), similarity.mutual_knn(x, x % 4, k=1))
        1.0 0.2
    """
    value: Tensor | np.float64 = like(X, mutual_knns(sampled(paired(X, Y), groups), k)[0, 1])
    return value


def mutual_knns(sample: SampledMatrices, k: int = K) -> Tensor:
    """`mutual_knn` of all pairs of matrices: [n_names, n_names] float64."""
    lists = neighbour_lists(sample, k, "mutual kNN")
    return symmetric_values(lists, _overlap, lists[0].device)


def _overlap(near: Tensor, other: Tensor) -> Tensor:
    return (near[:, :, None] == other[:, None]).sum().double() / near.numel()


@overload
def cknna(X: Tensor, Y: Tensor, *, k: int = ..., groups: Groups | None = ...) -> Tensor: ...


@overload
def cknna(X: np.ndarray, Y: np.ndarray, *, k: int = ..., groups: Groups | None = ...) -> np.float64: ...


def cknna(X: Matrix, Y: Matrix, *, k: int = K, groups: Groups | None = None) -> Tensor | np.float64:
    """Centred kernel alignment of the entries between nearest neighbours (CKNNA), 1 for equal matrices.

    HSIC(M K, M L) / sqrt(HSIC(M_X K, M_X K) HSIC(M_Y L, M_Y L)) with kernels K and L of inner products, M_X(i, j) = 1
    where row j is one of the k of largest K(i, j), and M = M_X M_Y, entry by entry (Huh et al., ICML 2024, arXiv
    2405.07987). HSIC is the unbiased estimator (Song et al., JMLR 13, 1393 (2012), eq. 5). M K is not symmetric, so the
    mean of HSIC(M K, M L) and HSIC(M L, M K) is taken. Rows are centred and divided by their length, as the
    neighbours would be the longest rows otherwise.

    Args:
        X: [n, D_X], a tensor or an array.
        Y: [n, D_Y], of the same kind.
        k: the number of neighbours.
        groups: [n] labels; rows with the label of row i are not its neighbours. None: all rows but itself may be.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: the matrices do not hold the same finite rows, one is constant, a row has fewer than k rows outside
            its group, or an estimate of HSIC(M_X K, M_X K) is not positive.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> print(round(similarity.cknna(x, 2 * x + 1), 6))
        1.0
    """
    value: Tensor | np.float64 = like(X, cknnas(sampled(paired(X, Y), groups), k)[0, 1])
    return value


class _Graph(NamedTuple):
    """Rows [n, D] of unit length and their neighbours [n, k]."""

    rows: Tensor
    near: Tensor


def cknnas(sample: SampledMatrices, k: int = K) -> Tensor:
    """`cknna` of all pairs of matrices: [n_names, n_names] float64."""
    n = len(sample.groups)
    if n < 4:
        raise InputError(f"CKNNA needs at least 4 rows, got {n}")
    rows = {name: _unit_rows(name, values) for name, values in sample.values.items()}
    lists = neighbour_lists(SampledMatrices(rows, sample.groups), k, "CKNNA")
    graphs = [_Graph(*graph) for graph in zip(rows.values(), lists, strict=True)]
    aligned = symmetric_values(graphs, _hsic, lists[0].device)
    for name, graph, own in zip(rows, graphs, aligned.diagonal(), strict=True):
        if not own > 64 * torch.finfo(torch.float64).eps * _inner_products(*graph).square().sum():
            raise InputError(
                f"CKNNA is undefined: HSIC of {name} and itself at {k} neighbours is not positive; give more rows, or "
                "a smaller k"
            )
    norms = aligned.diagonal().sqrt()
    return aligned / (norms[:, None] * norms)


def _unit_rows(name: str, values: Tensor) -> Tensor:
    """Rows about their mean divided by their length; a row that is the mean has no direction and stays 0."""
    mean = values.mean(0)
    centred = values - mean
    check_spread(name, centred.norm() / len(values) ** 0.5, mean, f"{len(values)} rows")
    lengths = centred.norm(dim=1, keepdim=True)
    return centred / torch.where(lengths > 0, lengths, 1)


def _hsic(a: _Graph, b: _Graph) -> Tensor:
    """The unbiased HSIC times n (n - 3) of the kernels at the shared neighbours."""
    n, itself = len(a.near), torch.arange(len(a.near), device=a.near.device)
    shared = (a.near[:, :, None] == b.near[:, None]).any(2)
    back = (a.near[a.near] == itself[:, None, None]).any(2) & (b.near[a.near] == itself[:, None, None]).any(2)
    kernels = [torch.where(shared, _inner_products(rows, a.near), 0) for rows in (a.rows, b.rows)]
    of_rows = [kernel.sum(1) for kernel in kernels]
    of_columns = [torch.zeros_like(of_rows[0]).index_add_(0, a.near.flatten(), kernel.flatten()) for kernel in kernels]
    trace = (kernels[0] * kernels[1])[back].sum()
    crossed = (of_columns[0] @ of_rows[1] + of_columns[1] @ of_rows[0]) / 2
    return trace + of_rows[0].sum() * of_rows[1].sum() / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2)


def _inner_products(rows: Tensor, near: Tensor) -> Tensor:
    """Inner products [n, k] of rows [n, D] and their neighbours [n, k]."""
    return torch.stack([torch.linalg.vecdot(rows, rows[of_rank]) for of_rank in near.unbind(1)], 1)
