"""Similarities of feature matrices: of two matrices, or of all pairs of matrices from their joint statistics.

Called with two matrices X [n, D_X] and Y [n, D_Y] that hold the same rows (tensors on one device, or arrays), a
function returns a float64 scalar of their kind. Called with a `JointStatistics` it returns a tensor
[n_names, n_names] (float64, on the CPU, in the order of `widths`) without a further pass over the rows: of the
training rows, or with `part="test"` of the test rows. Rows are centred by their own mean. All functions raise
InputError for fewer than 2 rows, for a matrix that is constant over them and for values that are not finite.

Measures of distances and neighbours (`distance_correlation`, `mutual_knn`, `cknna`, `information_imbalance`, and
`intrinsic_dimension` of one matrix) need rows and do not take joint statistics.
"""

from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.canonical_correlation import cca, svcca
from latentcmp.measures.compared_rows import Statistics, compared_rows, symmetric_values
from latentcmp.measures.distance_correlation import distance_correlation
from latentcmp.measures.matrices import Matrix
from latentcmp.measures.neighbour_dimension import intrinsic_dimension
from latentcmp.measures.neighbour_imbalance import information_imbalance
from latentcmp.measures.neighbour_overlap import cknna, mutual_knn
from latentcmp.measures.procrustes import orthogonal_map, padded
from latentcmp.statistics.augmented import Centred
from latentcmp.statistics.joint_moments import Part

__all__ = [
    "cca",
    "cknna",
    "distance_correlation",
    "effective_rank",
    "information_imbalance",
    "intrinsic_dimension",
    "linear_cka",
    "mutual_knn",
    "procrustes_distance",
    "svcca",
]

Kind = Literal["entropy", "participation"]


@overload
def linear_cka(X: Statistics, *, debiased: bool = ..., part: Part = ...) -> Tensor: ...


@overload
def linear_cka(X: Tensor, Y: Tensor, *, debiased: bool = ...) -> Tensor: ...


@overload
def linear_cka(X: np.ndarray, Y: np.ndarray, *, debiased: bool = ...) -> np.float64: ...


def linear_cka(
    X: Statistics | Matrix, Y: Matrix | None = None, *, debiased: bool = False, part: Part = "train"
) -> Tensor | np.float64:
    """Centred kernel alignment with the linear kernel, ||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F).

    Kornblith et al., ICML 2019, arXiv 1905.00414. With few rows for its columns it is close to 1 for any matrices.

    Args:
        X: [n, D_X], or joint statistics for all pairs of their matrices.
        Y: [n, D_Y]; not given with joint statistics.
        debiased: use the unbiased estimator of HSIC (Song et al., JMLR 13, 1393 (2012)), which is 0 on average for
            independent rows, can be negative, and needs 4 rows.
        part: rows of joint statistics, "train" or "test".

    Returns:
        A scalar, or [n_names, n_names].

    Raises:
        InputError: as the module says, and where the debiased estimator is undefined.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.arange(12.0).reshape(4, 3) ** 2
        >>> print(round(similarity.linear_cka(x, 5 - 2 * x), 6), round(similarity.linear_cka(x, x % 7), 6))
        1.0 0.748915
    """
    given = compared_rows(X, Y, part)
    aligned = symmetric_values(list(given.rows.factors.values()), lambda x, y: (x.T @ y).square().sum())
    if debiased:
        aligned = _unbiased(aligned, given.rows)
        if not bool((aligned.diagonal() > 64 * torch.finfo(torch.float64).eps).all()):
            raise InputError(
                f"debiased CKA is undefined: all {given.rows.n_rows} {given.kind} of some matrix are equally far from "
                "each other; give more rows"
            )
    norms = aligned.diagonal().sqrt()
    return given.result(aligned / (norms[:, None] * norms))


@overload
def procrustes_distance(X: Statistics, *, part: Part = ...) -> Tensor: ...


@overload
def procrustes_distance(X: Tensor, Y: Tensor) -> Tensor: ...


@overload
def procrustes_distance(X: np.ndarray, Y: np.ndarray) -> np.float64: ...


def procrustes_distance(
    X: Statistics | Matrix, Y: Matrix | None = None, *, part: Part = "train"
) -> Tensor | np.float64:
    """Procrustes distance min ||X - Y Q||_F over orthogonal Q, X and Y of unit Frobenius norm: 0 to sqrt(2).

    Its square is ||X||^2 + ||Y||^2 - 2 ||X'Y||_* (Ding et al., NeurIPS 2021, arXiv 2108.01661). The root is taken
    because it is a metric (Williams et al., NeurIPS 2021, arXiv 2110.14739). The narrower matrix is padded with zeros.

    Args:
        X: [n, D_X], or joint statistics for all pairs of their matrices.
        Y: [n, D_Y]; not given with joint statistics.
        part: rows of joint statistics, "train" or "test".

    Returns:
        A scalar, or [n_names, n_names].

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> print(round(similarity.procrustes_distance(x, x[:, ::-1]), 6))
        0.0
        >>> print(round(similarity.procrustes_distance(x, x**3), 6))
        0.291338
    """
    given = compared_rows(X, Y, part)
    return given.result(symmetric_values(list(given.rows.factors.values()), _rotated_difference))


@overload
def effective_rank(X: Statistics | Tensor, *, kind: Kind = ..., part: Part = ...) -> Tensor: ...


@overload
def effective_rank(X: np.ndarray, *, kind: Kind = ...) -> np.float64: ...


def effective_rank(X: Statistics | Matrix, *, kind: Kind = "entropy", part: Part = "train") -> Tensor | np.float64:
    """Number of directions of feature space that a matrix uses, from the eigenvalues p of its covariance.

    Args:
        X: [n, D], or joint statistics for each of their matrices.
        kind: with p normalised to a sum of 1, "entropy" is exp(-sum p log p), the effective rank of Roy & Vetterli,
            EUSIPCO 2007, of the covariance matrix; "participation" is 1 / sum p^2, the participation ratio.
        part: rows of joint statistics, "train" or "test".

    Returns:
        A scalar, or [n_names].

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> print(round(similarity.effective_rank(np.eye(4)), 6))
        3.0
    """
    if kind not in ("entropy", "participation"):
        raise InputError(f"kind must be entropy or participation, got {kind!r}")
    given = compared_rows(X, X, part)
    ranks = []
    for factor in given.rows.factors.values():
        values = torch.linalg.svdvals(factor).square()
        share = values / values.sum()
        ranks.append(torch.special.entr(share).sum().exp() if kind == "entropy" else 1 / share.square().sum())
    return given.result(torch.stack(ranks))


def _unbiased(aligned: Tensor, centred: Centred) -> Tensor:
    """The unbiased HSIC times n (n - 3), from ||X'Y||_F^2 of rows that are centred and of unit Frobenius norm.

    With zeroed diagonals K1 = -(||x_i||^2) and tr(KL) = ||X'Y||_F^2 - sum ||x_i||^2 ||y_i||^2, and off the diagonal
    centring changes nothing, because it adds terms that depend on one of the two rows alone.
    """
    n = centred.n_rows
    if n < 4:
        raise InputError(f"debiased CKA needs at least 4 rows, got {n}")
    return aligned - n / (n - 2) * centred.fourth + 1 / ((n - 1) * (n - 2))


def _rotated_difference(x: Tensor, y: Tensor) -> Tensor:
    """||X - Y Q||_F by its definition: as a difference of numbers near 1 it could not fall under 1e-8."""
    rotation = orthogonal_map(y, x)
    difference = padded(x, len(rotation)) - padded(y, len(rotation)) @ rotation
    norm: Tensor = difference.norm()
    return norm
