"""Canonical correlations of feature matrices: CCA and SVCCA, in the two forms of `latentcmp.similarity`."""

from typing import overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.compared_rows import ComparedRows, Statistics, compared_rows, symmetric_values
from latentcmp.measures.matrices import Matrix
from latentcmp.statistics.joint_moments import Part

CUTOFF = 1e-9  # of the largest singular value: the smallest relative strength of the reconstruction errors


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


def _mean_correlations(given: ComparedRows, cutoff: float, variance: float) -> Tensor | np.float64:
    if not (0 <= cutoff < 1 and 0 < variance <= 1):
        raise InputError(f"cutoff must lie in [0, 1) and variance in (0, 1], got {cutoff} and {variance}")
    cutoff = max(cutoff, given.rows.rcond)
    directions = [_directions(x, cutoff, variance) for x in given.rows.factors.values()]
    return given.result(symmetric_values(directions, _mean_correlation))


def _directions(x: Tensor, cutoff: float, variance: float) -> Tensor:
    """Left singular vectors [m, r] above `cutoff`, the fewest that hold `variance` of the variance."""
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    left = s.square().flip(0).cumsum(0).flip(0)  # summed from the smallest, which would vanish beside the largest
    chosen: Tensor = u[:, (s > cutoff * s[0]) & (left > (1 - variance) * left[0])]
    return chosen


def _mean_correlation(u: Tensor, v: Tensor) -> Tensor:
    correlations: Tensor = torch.linalg.svdvals(u.T @ v).clamp(max=1)
    return correlations.mean()
