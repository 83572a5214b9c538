"""A source of global maps from rows, or from R factors that stand for them, with errors of all cutoffs from residuals.

Residuals are formed (`truncation_path`), so small errors keep all their digits.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Fit
from latentcmp.measures.global_paths import Parts
from latentcmp.ops.cutoff_losses.reference import subtract_product_, truncation_path
from latentcmp.ops.small_svd import small_svd
from latentcmp.systems.folds import RowPart, two_folds

CANCELLED = 1e-6  # of a sum of squares: below it a difference of sums has lost too many digits


class PartRows(NamedTuple):
    """Rows of a source [..., m, D] and of its targets [..., m, T], and target squares [..., T] out of its reach."""

    source: Tensor
    targets: Tensor
    beyond: Tensor | float = 0.0


class RowResidual(NamedTuple):
    """`Residual` from rows: the source along the directions [..., m, r], and the rest as in `PartRows`."""

    source: Tensor
    targets: Tensor
    beyond: Tensor | float

    def squares(self, weights: Tensor) -> Tensor:
        """As `Residual.squares`."""
        return _squares(subtract_product_(self.targets.clone(), self.source, weights)) + self.beyond

    def path(self, weights: Tensor, kept: Tensor) -> Tensor:
        """As `Residual.path`."""
        return truncation_path(self.source, weights, self.targets, kept, _squares) + self.beyond


class RowSource:
    """`Source` from its rows, or from matrices that stand for them.

    Args:
        parts: gives the rows of fold 1, fold 2 and test; called once, when they are needed.
    """

    def __init__(self, parts: Callable[[], Sequence[PartRows]]) -> None:
        self._make = parts

    @classmethod
    def of_rows(cls, x: Tensor, y: Tensor) -> "RowSource":
        """From training rows x [..., n, D] and y [..., n, T], centred and scaled; without a test part.

        Raises:
            InputError: there are fewer than 2 rows.
        """
        n = x.shape[-2]
        if n < 2:
            raise InputError(f"two-fold cross-validation needs at least 2 training rows, got {n}")
        folds = [torch.from_numpy(positions).to(x.device) for positions in two_folds(n)]
        return cls(lambda: [PartRows(x[..., fold, :], y[..., fold, :]) for fold in folds])

    @property
    def fold_sizes(self) -> list[int]:
        """The rows of fold 1 and of fold 2."""
        return [part.source.shape[-2] for part in self.parts[: RowPart.TEST]]

    @cached_property
    def parts(self) -> Sequence[PartRows]:
        """The rows of each part."""
        return self._make()

    def rows(self, parts: Parts) -> Tensor:
        """As `Source.rows`."""
        return torch.cat([self.parts[part].source for part in parts], -2)

    def matrix(self, parts: Parts) -> Tensor:
        """The transposed rows [..., D, m]."""
        return self.rows(parts).mT

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        """Singular value decomposition: directions [b, D, r], singular values [b, r], left vectors [b, r, m]."""
        return small_svd(matrices)

    def fit(self, parts: Parts, factors: Sequence[Tensor]) -> Fit:
        """As `Source.fit`."""
        directions, s, left = factors
        return Fit(s, directions, left @ torch.cat([self.parts[part].targets for part in parts], -2))

    def residual(self, part: int, directions: Tensor) -> RowResidual:
        """As `Source.residual`."""
        source, targets, beyond = self.parts[part]
        return RowResidual(source @ directions, targets, beyond)


def reduced_factors(factors: Tensor, squares: Tensor, columns: slice) -> list[PartRows]:
    """Rows of a source and of all targets from R factors of all matrices side by side.

    Each factor is rotated so that the source has D rows of its own. What targets have in the other rows no map of the
    source can reconstruct, and only their squares are kept.

    Args:
        factors: [3, 1 + d, d], centred and scaled, zero below row j + 1 of column j.
        squares: [3, d], the squares of whole columns.
        columns: the columns of the source; all columns are targets.
    """
    return [_rotated(factor, total, columns) for factor, total in zip(factors, squares, strict=True)]


def _rotated(factor: Tensor, total: Tensor, columns: slice) -> PartRows:
    head, tail = factor[: columns.stop + 1], factor[columns.stop + 1 :]
    q, r = torch.linalg.qr(head[:, columns])
    targets = q.mT @ head
    targets[:, columns] = r
    beyond = total - _squares(targets)
    lost = (beyond < CANCELLED * total).nonzero()[:, 0]
    beyond[lost] = _squares(head[:, lost] - q @ targets[:, lost]) + _squares(tail[:, lost])
    return PartRows(r, targets, beyond)


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(-2)
