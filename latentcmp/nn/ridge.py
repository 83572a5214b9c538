"""Differentiable ridge maps: centring, one scale for each matrix, one Cholesky factorisation.

The method is that of `latentcmp.measures` with a fixed strength, for training: without host synchronisation, without
errors for degenerate rows, and with finite first and second derivatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.measures.nearest import nearest_others

# In units of the total variance of the source: far above the rounding of float32 (1e-14), and sufficient for the
# Cholesky factorisation of a singular matrix of a thousand columns in float64.
FLOOR = 1e-12


class SmoothScaling(NamedTuple):
    """Column means [D] and the reciprocal of the one scale; the reciprocal of a constant matrix is 0."""

    mean: Tensor
    reciprocal: Tensor

    @classmethod
    def of_moments(cls, mean: Tensor, variance: Tensor, rounding: float) -> SmoothScaling:
        """From means and the total variance; a spread of up to `rounding` times the mean counts as constant."""
        varies = variance > mean.square().sum() * rounding**2
        reciprocal = torch.where(varies, variance, torch.ones_like(variance)).rsqrt()
        return cls(mean, torch.where(varies, reciprocal, torch.zeros_like(variance)))

    @classmethod
    def of_rows(cls, rows: Tensor, rounding: float) -> SmoothScaling:
        """From rows [n, D]."""
        mean = rows.mean(0)
        return cls.of_moments(mean, (rows - mean).square().sum(1).mean(), rounding)

    def held(self) -> SmoothScaling:
        """The same scaling, detached."""
        return SmoothScaling(self.mean.detach(), self.reciprocal.detach())

    def __call__(self, rows: Tensor) -> Tensor:
        """Centre and scale rows [n, D]."""
        return (rows - self.mean) * self.reciprocal


def rounding_of(dtype: torch.dtype) -> float:
    """The relative spread that rounding can cause in a matrix of this dtype, sums in float64 included."""
    return max(torch.finfo(dtype).eps, 8 * torch.finfo(torch.float64).eps)


def ridge_solve(gram: Tensor, right: Tensor, alpha: float) -> Tensor:
    """Solve (gram + strength I) w = right for the strength alpha tr(gram) + FLOOR.

    The traces of X'X / n and of XX' / n both are the total variance of centred X.

    Args:
        gram: [..., m, m], symmetric positive semidefinite.
        right: [..., m, T].
        alpha: relative strength.

    Returns:
        w [..., m, T].
    """
    strength = alpha * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + FLOOR
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(gram + strength[..., None, None] * identity)
    return torch.cholesky_solve(right, factor)


def ridge_predict(queries: Tensor, x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Predict [..., m, T] for queries [..., m, D] by the ridge map of centred rows x [..., n, D] to y [..., n, T].

    The smaller of the n x n and the D x D system is solved.
    """
    n, width = x.shape[-2:]
    if n <= width:
        return (queries @ x.mT) @ ridge_solve(x @ x.mT / n, y / n, alpha)
    return queries @ ridge_solve(x.mT @ x / n, x.mT @ y / n, alpha)


def local_predict(x: Tensor, known_x: Tensor, known_y: Tensor, n_local_points: int, alpha: float) -> Tensor:
    """Predict [n, T] for every row of x [n, D] by the ridge map of its nearest other rows, known_x to known_y.

    Row i of known_x is row i of x, and is excluded from its own map. Neighbours are those of `nearest_others`, whose
    number of candidates is fixed, and are centred by their own means.
    """
    with torch.no_grad():
        nearest = nearest_others(x, known_x, n_local_points)
    around_x, around_y = known_x[nearest], known_y[nearest]
    mean_x, mean_y = around_x.mean(1, keepdim=True), around_y.mean(1, keepdim=True)
    predicted = ridge_predict(x[:, None] - mean_x, around_x - mean_x, around_y - mean_y, alpha)
    return (predicted + mean_y)[:, 0]
