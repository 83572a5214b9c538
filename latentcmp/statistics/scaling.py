"""Centring by the training mean and division by one scale, so that an error of 1 is that of the mean."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.errors import InputError


@dataclass(frozen=True)
class Scaling:
    """Column means [D] and the scale (0-dimensional) of a training matrix.

    The scale is sqrt(sum over columns of the population variance), as in scikit-matter's
    `StandardFlexibleScaler()`; a scaled training matrix has total variance 1.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, train: Tensor, name: str = "the matrix") -> "Scaling":
        """Fit training rows [n, D]. Raises InputError where all rows are equal up to rounding."""
        mean = train.mean(0)
        return cls._checked(mean, train - mean, name)

    @classmethod
    def fit_(cls, train: Tensor, name: str = "the matrix") -> "Scaling":
        """As `fit`; the rows are centred and scaled in place."""
        mean = train.mean(0)
        scaling = cls._checked(mean, train.sub_(mean), name)
        train.div_(scaling.scale)
        return scaling

    @classmethod
    def _checked(cls, mean: Tensor, train: Tensor, name: str) -> "Scaling":
        scale = torch.linalg.vector_norm(train, dim=1).square_().mean().sqrt()
        noise = 8 * torch.finfo(train.dtype).eps * mean.norm()
        if not bool(scale > noise):
            raise InputError(
                f"{name} is constant over the {len(train)} training rows, so errors relative to its spread are "
                "undefined; give rows that differ, or leave it out"
            )
        return cls(mean, scale)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return rows [n, D] centred and scaled."""
        return (rows - self.mean).div_(self.scale)

    def apply_(self, rows: Tensor) -> Tensor:
        """Centre and scale rows [n, D] in place, and return them."""
        return rows.sub_(self.mean).div_(self.scale)
