"""Second moments of the rows of several matrices, and the matrices with the inner products of rows that they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.augmented import Centred, centred_factors, centred_grams, check_spread, shifted
from latentcmp.statistics.scaling import Scaling
from latentcmp.systems.folds import FOLDS, RowPart

Method = Literal["qr", "gram"]
Part = Literal["train", "test"]
Columns = Mapping[str, tuple[str, int]]
RCOND: dict[str, float] = {"qr": 0.0, "gram": 1e-7}
"""Relative cutoff of singular values, below which the statistic of a method is rounding alone."""


def side_by_side(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each matrix among those of all, side by side."""
    stops = accumulate(widths.values())
    return {name: slice(stop - width, stop) for (name, width), stop in zip(widths.items(), stops, strict=True)}


class Scaled(NamedTuple):
    """The statistic of each part about the training mean, divided by the scales.

    Attributes:
        parts: [n_parts, d, d] Gram matrices or [n_parts, 1 + d, d] R factors, with d the columns of all matrices side
            by side.
        counts: numbers of rows of the parts.
        columns: the columns of each matrix.
        scalings: the scaling of the rows of each matrix.
    """

    parts: Tensor
    counts: tuple[int, ...]
    columns: dict[str, slice]
    scalings: dict[str, Scaling]


@dataclass(frozen=True)
class JointMoments:
    """The result of `JointStatistics`: first and second moments of all rows of each part, about a pivot.

    Attributes:
        widths: columns of each matrix.
        method: "qr" or "gram".
        parts: R factors or Gram matrices [n_parts, size, size] of the rows [1 | X - p | s], float64.
        counts: numbers of rows [n_parts], int64.
        pivot: p [D], float64, zero where there was no row.
    """

    widths: dict[str, int]
    method: Method
    parts: Tensor
    counts: Tensor
    pivot: Tensor

    @property
    def rcond(self) -> float:
        """Relative cutoff of singular values, below which they are rounding."""
        return RCOND[self.method]

    def tensors(self) -> list[Tensor]:
        """Return parts, counts and pivot."""
        return [self.parts, self.counts, self.pivot]

    def parts_about(self, pivot: Tensor) -> Tensor:
        """Return the parts about another pivot [D]."""
        return self._moved(self.pivot - pivot.to(self.pivot.device))

    def joined(self, unions: Sequence[Sequence[int]]) -> "JointMoments":
        """Return the moments whose parts are unions of these; an empty union has no rows."""
        empty = torch.zeros_like(self.parts[0])
        parts = torch.stack([self._joined(self.parts[list(union)]) if union else empty for union in unions])
        counts = torch.stack([self.counts[list(union)].sum() for union in unions])
        return JointMoments(self.widths, self.method, parts, counts, self.pivot)

    def _joined(self, parts: Tensor) -> Tensor:
        if self.method == "gram":
            return parts.sum(0)
        r: Tensor = torch.linalg.qr(parts.flatten(0, 1), mode="r").R
        return r

    def centred(self, part: Part = "train") -> Centred:
        """Return the training rows (both folds) or the test rows about their own mean, for similarities.

        Raises:
            InputError: the part is another one or has fewer than 2 rows, a matrix is constant over them, or a value was
                not finite.
        """
        if part not in ("train", "test"):
            raise InputError(f"part must be train (both folds) or test, got {part!r}")
        chosen = list(FOLDS) if part == "train" else [RowPart.TEST]
        n_rows = int(self.counts[chosen].sum())
        if n_rows < 2:
            raise InputError(f"similarities need at least 2 {part} rows, got {n_rows}")
        self.check_finite()
        mean, widths = self._mean(self.parts[chosen]), list(self.widths.values())
        stacked = self._factors(self._moved(-mean)[chosen]).flatten(0, 1)
        _, *blocks, squares = stacked.split_with_sizes([1, *widths, len(widths)], dim=1)
        norms = torch.stack([block.norm() for block in blocks])
        for name, norm, centre in zip(self.widths, norms, (self.pivot + mean).split_with_sizes(widths), strict=True):
            check_spread(name, norm / n_rows**0.5, centre, f"{n_rows} {part} rows")
        factors = {name: (block / norm).cpu() for name, block, norm in zip(self.widths, blocks, norms, strict=True)}
        squares = squares / norms.square()
        return Centred(factors, (squares.T @ squares).cpu(), n_rows, self.rcond)

    def _checked_counts(self) -> tuple[int, int, int]:
        n_first, n_second, n_test = self.counts.tolist()
        if n_first < 1 or n_second < 1 or n_test < 1:
            given = zip((n_first, n_second, n_test), ("fold 1", "fold 2", "test"), strict=True)
            seen = ", ".join(f"{n} in {name}" for n, name in given)
            raise InputError(f"errors need rows in both folds and in the test part, got {seen}")
        return n_first, n_second, n_test

    def scaled(self, columns: Columns | None = None) -> Scaled:
        """Return the parts centred and scaled on all training rows; mean and scale are exact for both methods.

        Args:
            columns: {name: (matrix, n)} for the first n columns of matrices; None for all matrices.

        Raises:
            InputError: a part has no rows, a matrix is constant over the training rows, or a value was not finite.
        """
        counts, slices, gram = self._checked_counts(), self.slices(columns), self.method == "gram"
        self.check_finite()
        parts, mean, squares = (centred_grams if gram else centred_factors)(self.parts, sum(self.widths.values()))
        pivot = self.pivot
        if columns:
            index = torch.cat([torch.arange(each.start, each.stop) for each in slices.values()]).to(parts.device)
            parts, mean, squares, pivot = parts[:, :, index], mean[index], squares[index], pivot[index]
            parts = parts[:, index] if gram else torch.linalg.qr(parts, mode="r").R
        widths = {name: each.stop - each.start for name, each in slices.items()}
        scalings = _scalings(widths, pivot + mean, squares, counts[0] + counts[1])
        scales = torch.stack([scaling.scale for scaling in scalings.values()])
        inverse = (1 / scales).repeat_interleave(torch.tensor(list(widths.values()), device=parts.device))
        parts *= inverse[:, None] * inverse if gram else inverse
        return Scaled(parts, counts, side_by_side(widths), scalings)

    def slices(self, columns: Columns | None) -> dict[str, slice]:
        """Return the columns of each matrix among those of all."""
        whole = side_by_side(self.widths)
        if columns is None:
            return whole
        return {name: slice(whole[matrix].start, whole[matrix].start + n) for name, (matrix, n) in columns.items()}

    def check_finite(self) -> None:
        """Raise InputError naming the first matrix with a NaN or an infinity, which is on the diagonal too."""
        finite = self.parts.diagonal(dim1=1, dim2=2).isfinite().all(0)[1 : -len(self.widths)]
        for name, block in zip(self.widths, finite.split_with_sizes(list(self.widths.values())), strict=True):
            if not bool(block.all()):
                raise InputError(f"{name} held a NaN or an infinity in some row; leave that structure out")

    def _mean(self, parts: Tensor) -> Tensor:
        """The mean of the rows of some parts about the pivot."""
        is_gram = self.method == "gram"
        first = parts[:, 0].sum(0) if is_gram else torch.linalg.qr(parts.flatten(0, 1), mode="r").R[0]
        mean: Tensor = first[1 : -len(self.widths)] / first[0]
        return mean

    def _factors(self, parts: Tensor) -> Tensor:
        """Matrices with the inner products of the rows: R factors themselves, or square roots of Gram matrices."""
        if self.method == "qr":
            return parts
        size = parts.diagonal(dim1=-2, dim2=-1).sqrt()  # of columns, lest a large matrix hides a small one
        size = torch.where(size > 0, size, 1.0)
        values, vectors = torch.linalg.eigh(parts / (size[..., None] * size[..., None, :]))
        roots: Tensor = values.clamp(min=0).sqrt()[..., None] * vectors.mT * size[..., None, :]
        return roots

    def _moved(self, by: Tensor) -> Tensor:
        """The parts about the pivot less `by` [D]."""
        columns = list(self.widths.values())
        parts = shifted(self.parts, by, columns)
        return shifted(parts.mT, by, columns).mT if self.method == "gram" else parts


def _scalings(widths: Mapping[str, int], mean: Tensor, squares: Tensor, n_rows: int) -> dict[str, Scaling]:
    """The scaling of each matrix, from the mean and the summed squares of all columns of its training rows."""
    sizes = list(widths.values())
    scales = (torch.stack([block.sum() for block in squares.split_with_sizes(sizes)]) / n_rows).sqrt()
    means = mean.split_with_sizes(sizes)
    scalings = {name: Scaling(*each) for name, *each in zip(widths, means, scales, strict=True)}
    for name, scaling in scalings.items():
        check_spread(name, scaling.scale, scaling.mean, f"{n_rows} training rows")
    return scalings
