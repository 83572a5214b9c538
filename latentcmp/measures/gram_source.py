"""A source of global maps from Gram matrices, with errors of all cutoffs from moments.

With b the weights along the directions V of a fit and H = V'X'XV, C = V'X'Y on the rows to predict, the squared error
of column j with the first n directions is ||y_j||^2 + sum_{i <= n} b_ij ((L b)_ij - 2 C_ij), where L is H below its
diagonal twice and on it once: one product gives all cutoffs. It is a difference of sums of squares, so errors below
1e-8 of a target's spread are rounding.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.measures.cross_validation import Fit
from latentcmp.measures.global_paths import Parts

BAND = 128  # directions whose products with all before them are formed at a time


class GramResidual(NamedTuple):
    """`Residual` from moments: H [r, r], C [r, T] and the squares [T] of the targets."""

    h: Tensor
    c: Tensor
    total: Tensor

    def squares(self, weights: Tensor) -> Tensor:
        """As `Residual.squares`."""
        return (self.total + (weights * (self.h @ weights - 2 * self.c)).sum(0)).clamp(min=0)

    def path(self, weights: Tensor, kept: Tensor) -> Tensor:
        """As `Residual.path`."""
        lower = self.h.tril(-1).mul_(2) + self.h.diagonal().diag()
        steps = torch.empty_like(weights)
        for start in range(0, len(weights), BAND):
            stop = min(start + BAND, len(weights))
            band = slice(start, stop)
            torch.addmm(self.c[band], lower[band, :stop], weights[:stop], beta=-2, out=steps[band])
        steps *= weights
        inside = torch.arange(len(weights), device=weights.device) < kept[:, None]
        return torch.addmm(self.total, inside.to(weights.dtype), steps).clamp_(min=0)


class GramSource:
    """`Source` from Gram matrices [n_parts, d, d] of all matrices side by side, centred and scaled.

    Args:
        grams: one for each part.
        columns: the columns of the source; all columns are targets.
    """

    def __init__(self, grams: Tensor, columns: slice) -> None:
        self.grams, self.columns = grams, columns

    def matrix(self, parts: Parts) -> Tensor:
        """Gram matrix [D, D] of the source."""
        return self._sum(parts)[:, self.columns]

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        """Singular values [b, r] and directions [b, D, r], strongest first."""
        values, vectors = torch.linalg.eigh(matrices)
        return values.clamp(min=0).sqrt().flip(-1), vectors.flip(-1)

    def fit(self, parts: Parts, factors: Sequence[Tensor]) -> Fit:
        """As `Source.fit`."""
        s, directions = factors
        return Fit(s, directions, (directions * torch.where(s > 0, 1 / s, 0.0)).mT @ self._sum(parts))

    def residual(self, part: int, directions: Tensor) -> GramResidual:
        """As `Source.residual`."""
        c = directions.mT @ self.grams[part, self.columns]
        return GramResidual(c[:, self.columns] @ directions, c, self.grams[part].diagonal())

    def rows(self, parts: Parts) -> Tensor:
        """As `Source.rows`: [D, D]."""
        s, directions = self.factorise(self.matrix(parts))
        return s[:, None] * directions.mT

    def _sum(self, parts: Parts) -> Tensor:
        return reduce(torch.add, (self.grams[part, self.columns] for part in parts))
