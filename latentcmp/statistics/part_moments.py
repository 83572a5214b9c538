"""Second moments of any union of parts about any mean, from the Gram matrices of the parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.statistics.augmented import check_spread
from latentcmp.statistics.joint_moments import Columns, JointMoments, side_by_side
from latentcmp.statistics.scaling import Scaling

Parts = Sequence[int]
ALL_COLUMNS = slice(None)
EQUAL = 1e-14  # of the squares about the pivot: a smaller sum about the mean is rounding


@dataclass(frozen=True)
class PartMoments:
    """Numbers, sums and Gram matrices of the rows of each part, in columns side by side, about a pivot.

    Attributes:
        columns: the columns of each matrix, by name.
        counts: rows of each part.
        sums: [n_parts, D].
        grams: [n_parts, D, D].
        pivot: [D].
    """

    columns: dict[str, slice]
    counts: tuple[int, ...]
    sums: Tensor
    grams: Tensor
    pivot: Tensor

    @classmethod
    def of(cls, moments: JointMoments, columns: Columns | None = None) -> "PartMoments":
        """Take the moments of all matrices, or of the leading columns {name: (matrix, n)} of some.

        Raises:
            InputError: a value was not finite.
        """
        moments.check_finite()
        inner = slice(1, 1 + sum(moments.widths.values()))
        parts = moments.parts if moments.method == "gram" else moments.parts.mT @ moments.parts
        sums, grams, pivot = parts[:, 0, inner], parts[:, inner, inner], moments.pivot
        slices = moments.slices(columns)
        if columns:
            index = torch.cat([torch.arange(each.start, each.stop) for each in slices.values()]).to(parts.device)
            sums, grams, pivot = sums[:, index], grams[:, index][:, :, index], pivot[index]
        widths = {name: each.stop - each.start for name, each in slices.items()}
        return cls(side_by_side(widths), tuple(moments.counts.tolist()), sums, grams, pivot)

    @property
    def widths(self) -> list[int]:
        """The number of columns of each matrix."""
        return [each.stop - each.start for each in self.columns.values()]

    def joined(self, unions: Sequence[Parts]) -> "PartMoments":
        """Return the moments whose parts are unions of these."""
        if [list(union) for union in unions] == [[part] for part in range(len(self.counts))]:
            return self
        sums = torch.stack([self.sums[list(union)].sum(0) for union in unions])
        grams = torch.stack([self._gram(union, ALL_COLUMNS) for union in unions])
        return PartMoments(self.columns, tuple(map(self.count, unions)), sums, grams, self.pivot)

    def count(self, parts: Parts) -> int:
        """Return the number of rows of some parts."""
        return sum(self.counts[part] for part in parts)

    def mean(self, parts: Parts) -> Tensor:
        """Return the mean of the rows of some parts, less the pivot: [D]."""
        mean: Tensor = self.sums[list(parts)].sum(0) / self.count(parts)
        return mean

    def sums_about(self, parts: Parts, mean: Tensor) -> Tensor:
        """Return the sum of the rows of some parts about a mean: [D]."""
        sums: Tensor = self.sums[list(parts)].sum(0) - self.count(parts) * mean
        return sums

    def gram_about(self, parts: Parts, mean: Tensor, rows: slice = ALL_COLUMNS) -> Tensor:
        """Return rows of the Gram matrix of some parts about a mean: [rows, D]."""
        sums, n = self.sums[list(parts)].sum(0), self.count(parts)
        left = torch.stack([sums - n / 2 * mean, mean], 1)  # S - s m' - m s' + n m m' as one product
        return self._gram(parts, rows).addmm_(left[rows], left.flip(1).mT, alpha=-1)

    def squares_about(self, parts: Parts, mean: Tensor) -> Tensor:
        """Return the diagonal of the Gram matrix of some parts about a mean: [D]."""
        diagonal = self.grams.diagonal(dim1=1, dim2=2)[list(parts)].sum(0)
        squares: Tensor = diagonal - 2 * mean * self.sums[list(parts)].sum(0) + self.count(parts) * mean.square()
        return squares

    def scalings(self, training: Parts) -> dict[str, Scaling]:
        """Return the scaling of each matrix on the rows of some parts.

        Raises:
            InputError: a matrix is constant over them.
        """
        mean, n = self.mean(training), self.count(training)
        squares, about_pivot = (
            torch.stack([each.sum() for each in self.squares_about(training, centre).split_with_sizes(self.widths)])
            for centre in (mean, torch.zeros_like(mean))
        )
        scales = (torch.where(squares > EQUAL * about_pivot, squares, 0.0) / n).sqrt()
        centres = self._centre(mean).split_with_sizes(self.widths)
        scalings = {name: Scaling(*each) for name, *each in zip(self.columns, centres, scales, strict=True)}
        for name, scaling in scalings.items():
            check_spread(name, scaling.scale, scaling.mean, f"{n} training rows of a fold")
        return scalings

    def _centre(self, mean: Tensor) -> Tensor:
        return self.pivot + mean

    def _gram(self, parts: Parts, rows: slice) -> Tensor:
        first, *others = parts
        total = self.grams[first, rows].clone()
        for part in others:
            total += self.grams[part, rows]
        return total
