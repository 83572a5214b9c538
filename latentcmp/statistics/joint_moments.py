"""Second moments of the rows of several matrices, and the matrices with the inner products of rows that they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.augmented import Centred, centred_factors, centred_grams, check_spread, shifted
from latentcmp.statistics.compressed import Compressed, Folds
from latentcmp.statistics.scaling import Scaling
from latentcmp.systems.folds import FOLDS, RowPart

Method = Literal["qr", "gram"]
Part = Literal["train", "test"]
Columns = Mapping[str, tuple[str, int]]
RCOND: dict[str, float] = {"qr": 0.0, "gram": 1e-7}
"""Relative cutoff of singular values, below which the statistic of a method is rounding alone."""


class Scaled(NamedTuple):
    """The statistic of each part about the training mean, divided by the scales.

    Attributes:
        parts: [3, d, d] Gram matrices or [3, 1 + d, d] R factors, with d the columns of all matrices side by side.
        counts: numbers of rows of fold 1, fold 2 and test.
        columns: the columns of each matrix.
    """

    parts: Tensor
    counts: tuple[int, int, int]
    columns: dict[str, slice]


@dataclass(frozen=True)
class JointMoments:
    """The result of `JointStatistics`: first and second moments of all rows of each `RowPart`, about a pivot.

    Attributes:
        widths: columns of each matrix.
        method: "qr" or "gram".
        parts: R factors or Gram matrices [3, size, size] of the rows [1 | X - p | s], float64.
        counts: numbers of rows [3], int64.
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

    def compressed(self, columns: Columns | None = None) -> dict[str, Compressed]:
        """Return for each matrix folds and test part with the inner products of its rows, centred and scaled.

        Args:
            columns: {name: (matrix, n)} for the first n columns of matrices; None for all matrices.

        Raises:
            InputError: a part has no rows, a matrix is constant over the training rows, or a value was not finite.
        """
        n_first, n_second, n_test = self._checked_counts()
        self._check_finite()
        mean = self._mean(self.parts[:2])
        moved = self._moved(-mean)[:, : len(mean) + 1, : len(mean) + 1]
        first, second, test = (factor[:, 1:] for factor in self._factors(moved))
        full = torch.linalg.qr(torch.cat([first, second]), mode="r").R
        compressed = {}
        for name, chosen in self._slices(columns).items():
            scale = (full[:, chosen].square().sum() / (n_first + n_second)).sqrt()
            scaling = Scaling((self.pivot + mean)[chosen], scale)
            check_spread(name, scale, scaling.mean, f"{n_first + n_second} training rows")
            of_folds = [part[:, chosen] / scale for part in (first, second, full)]
            folds = Folds(of_folds[0], of_folds[1], of_folds[2], n_first, n_second)
            compressed[name] = Compressed(folds, test[:, chosen] / scale, n_test, scaling)
        return compressed

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
        self._check_finite()
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

    def scaled(self) -> Scaled:
        """Return the parts centred and scaled on all training rows; mean and scale are exact for both methods.

        Raises:
            InputError: as `compressed`.
        """
        counts = self._checked_counts()
        widths, n_training, gram = list(self.widths.values()), counts[0] + counts[1], self.method == "gram"
        self._check_finite()
        parts, mean, squares = (centred_grams if gram else centred_factors)(self.parts, sum(widths))
        scales = (torch.stack([block.sum() for block in squares.split_with_sizes(widths)]) / n_training).sqrt()
        for name, scale, centre in zip(self.widths, scales, (self.pivot + mean).split_with_sizes(widths), strict=True):
            check_spread(name, scale, centre, f"{n_training} training rows")
        inverse = (1 / scales).repeat_interleave(torch.tensor(widths, device=self.parts.device))
        parts *= inverse[:, None] * inverse if gram else inverse
        return Scaled(parts, counts, self._slices(None))

    def _slices(self, columns: Columns | None) -> dict[str, slice]:
        """Where the columns of each matrix stand among those of all."""
        starts = dict(zip(self.widths, accumulate(self.widths.values(), initial=0), strict=False))
        columns = columns or {name: (name, width) for name, width in self.widths.items()}
        return {name: slice(starts[matrix], starts[matrix] + n) for name, (matrix, n) in columns.items()}

    def _check_finite(self) -> None:
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
        return values.clamp(min=0).sqrt()[..., None] * vectors.mT * size[..., None, :]

    def _moved(self, by: Tensor) -> Tensor:
        """The parts about the pivot less `by` [D]."""
        columns = list(self.widths.values())
        parts = shifted(self.parts, by, columns)
        return shifted(parts.mT, by, columns).mT if self.method == "gram" else parts
