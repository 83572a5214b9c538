"""Similarities of feature matrices: of two matrices, or of all pairs of matrices from their joint statistics.

Called with two matrices X [n, D_X] and Y [n, D_Y] that hold the same rows (tensors on one device, or arrays), a
function returns a float64 scalar of their kind. Called with a `JointStatistics` it returns a tensor
[n_names, n_names] (float64, on the CPU, in the order of `widths`) without a further pass over the rows: of the
training rows, or with `part="test"` of the test rows. Rows are centred by their own mean. All functions raise
InputError for fewer than 2 rows, for a matrix that is constant over them and for values that are not finite.
"""

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.compared_rows import ComparedRows, Statistics, compared_rows
from latentcmp.measures.distance_correlation import distance_correlation
from latentcmp.measures.matrices import Matrix
from latentcmp.measures.procrustes import orthogonal_map, padded
from latentcmp.statistics.augmented import Centred
from latentcmp.statistics.joint_moments import Part

__all__ = ["cca", "distance_correlation", "effective_rank", "linear_cka", "procrustes_distance", "svcca"]

Kind = Literal["entropy", "participation"]
CUTOFF = 1e-9  # of the largest singular value: the smallest relative strength of the reconstruction errors


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
    aligned = _pairwise(list(given.rows.factors.values()), lambda x, y: (x.T @ y).square().sum())
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
    return given.result(_pairwise(list(given.rows.factors.values()), _rotated_difference))


@overload
def cca(X: Statistics, *, part: Part = ..., cutoff: float = ...) -> Tensor: ...


@overload
def cca(X: Tensor, Y: Tensor, *, cutoff: float = ...) -> Tensor: ...


@overload
def cca(X: np.ndarray, Y: np.ndarray, *, cutoff: float = ...) -> np.float64: ...


def cca(
    X: Statistics | Matrix, Y: Matrix | None = None, *, part: Part = "train", cutoff: float = CUTOFF
) -> Tensor | np.float64:
    """Mean canonical correlation, over as many as the matrix of lower rank has directions.

    Hotelling, Biometrika 28, 321 (1936).

    Args:
        X: [n, D_X], or joint statistics for all pairs of their matrices.
        Y: [n, D_Y]; not given with joint statistics.
        part: rows of joint statistics, "train" or "test".
        cutoff: directions with singular values of at most `cutoff` times the largest of their matrix are left out.

    Returns:
        A scalar, or [n_names, n_names].

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.arange(12.0).reshape(6, 2) ** 2
        >>> mixed = x @ [[1.0, 2.0], [0.0, 3.0]]
        >>> print(round(similarity.cca(x, mixed), 6), round(similarity.cca(x, x % 5), 6))
        1.0 0.305355
    """
    return _mean_correlations(compared_rows(X, Y, part), cutoff, variance=1.0)


@overload
def svcca(X: Statistics, *, part: Part = ..., cutoff: float = ..., variance: float = ...) -> Tensor: ...


@overload
def svcca(X: Tensor, Y: Tensor, *, cutoff: float = ..., variance: float = ...) -> Tensor: ...


@overload
def svcca(X: np.ndarray, Y: np.ndarray, *, cutoff: float = ..., variance: float = ...) -> np.float64: ...


def svcca(
    X: Statistics | Matrix,
    Y: Matrix | None = None,
    *,
    part: Part = "train",
    cutoff: float = CUTOFF,
    variance: float = 0.99,
) -> Tensor | np.float64:
    """`cca` of the fewest leading singular directions that hold `variance` of each matrix's variance.

    Raghu et al., NeurIPS 2017, arXiv 1706.05806.

    Args:
        X: [n, D_X], or joint statistics for all pairs of their matrices.
        Y: [n, D_Y]; not given with joint statistics.
        part: rows of joint statistics, "train" or "test".
        cutoff: directions with singular values of at most `cutoff` times the largest of their matrix are left out.
        variance: the fraction of the variance that is kept, in (0, 1].

    Returns:
        A scalar, or [n_names, n_names].

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.arange(12.0).reshape(6, 2) ** 2
        >>> print(round(similarity.svcca(x, x % 5, variance=0.9), 6))
        0.231103
    """
    return _mean_correlations(compared_rows(X, Y, part), cutoff, variance)


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


def _pairwise(matrices: list[Tensor], measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A symmetric measure of all pairs, each computed once."""
    n = len(matrices)
    values = torch.empty(n, n, dtype=torch.float64, device=matrices[0].device)
    for i in range(n):
        for j in range(i, n):
            values[i, j] = values[j, i] = measure(matrices[i], matrices[j])
    return values


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


def _mean_correlations(given: ComparedRows, cutoff: float, variance: float) -> Tensor | np.float64:
    if not (0 <= cutoff < 1 and 0 < variance <= 1):
        raise InputError(f"cutoff must lie in [0, 1) and variance in (0, 1], got {cutoff} and {variance}")
    cutoff = max(cutoff, given.rows.rcond)
    directions = [_directions(x, cutoff, variance) for x in given.rows.factors.values()]
    return given.result(_pairwise(directions, _mean_correlation))


def _directions(x: Tensor, cutoff: float, variance: float) -> Tensor:
    """Left singular vectors [m, r] above `cutoff`, the fewest that hold `variance` of the variance."""
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    left = s.square().flip(0).cumsum(0).flip(0)  # summed from the smallest, which would vanish beside the largest
    chosen: Tensor = u[:, (s > cutoff * s[0]) & (left > (1 - variance) * left[0])]
    return chosen


def _mean_correlation(u: Tensor, v: Tensor) -> Tensor:
    correlations: Tensor = torch.linalg.svdvals(u.T @ v).clamp(max=1)
    return correlations.mean()
