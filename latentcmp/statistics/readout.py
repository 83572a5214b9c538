"""What joint statistics give once all rows are in: matrices that stand for the rows, centred and scaled."""

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

Method = Literal["qr", "gram"]
Part = Literal["train", "test"]
Columns = Mapping[str, tuple[str, int]]
PARTS = ("fold 1", "fold 2", "test")
UNSEEN: dict[str, float] = {"qr": 0.0, "gram": 1e-7}  # of the largest singular value: the rounding of each method


def about(parts: Tensor, moved: Tensor, widths: Mapping[str, int], method: Method) -> Tensor:
    """The parts of rows about a pivot, as they would be about that pivot less `moved` [D]."""
    columns = list(widths.values())
    parts = shifted(parts, moved, columns)
    return shifted(parts.mT, moved, columns).mT if method == "gram" else parts


def side_by_side(widths: Mapping[str, int]) -> dict[str, slice]:
    """Where the columns of matrices stand that are put side by side."""
    stops = accumulate(widths.values())
    return {name: slice(stop - width, stop) for (name, width), stop in zip(widths.items(), stops, strict=True)}


class Scaled(NamedTuple):
    """The statistic of each part about the training mean, divided by the scales: Gram matrices or R factors.

    parts: [3, d, d] Gram matrices or [3, 1 + d, d] R factors, d the columns of all matrices side by side.
    counts: rows of fold 1, fold 2 and test.
    columns: where the columns of each matrix stand.
    scalings: the scaling of the rows of each matrix.
    """

    parts: Tensor
    counts: tuple[int, int, int]
    columns: dict[str, slice]
    scalings: dict[str, Scaling]


@dataclass(frozen=True)
class Readout:
    """What `JointStatistics` asks of its state; its methods say what is raised where there are too few rows."""

    widths: dict[str, int]
    method: Method
    parts: Tensor
    counts: Tensor
    pivot: Tensor

    def compressed(self, columns: Columns | None = None) -> dict[str, Compressed]:
        """For each matrix, rows that stand for its own: centred and scaled on all training rows, folds and test."""
        n_first, n_second, n_test = self._checked_counts()
        self._check_finite()
        mean = self._mean(self.parts[:2])
        moved = self._about(mean)[:, : len(mean) + 1, : len(mean) + 1]
        first, second, test = (factor[:, 1:] for factor in self._factors(moved))
        full = torch.linalg.qr(torch.cat([first, second]), mode="r").R
        found = {}
        for name, chosen in self._slices(columns).items():
            scale = (full[:, chosen].square().sum() / (n_first + n_second)).sqrt()
            scaling = Scaling((self.pivot + mean)[chosen], scale)
            check_spread(name, scale, scaling.mean, f"{n_first + n_second} training rows")
            of_folds = [part[:, chosen] / scale for part in (first, second, full)]
            folds = Folds(of_folds[0], of_folds[1], of_folds[2], n_first, n_second)
            found[name] = Compressed(folds, test[:, chosen] / scale, n_test, scaling)
        return found

    def centred(self, part: Part = "train") -> Centred:
        """The training rows (both folds) or the test rows about their own mean, for similarities."""
        if part not in ("train", "test"):
            raise InputError(f"part must be train (both folds) or test, got {part!r}")
        chosen = slice(0, 2) if part == "train" else slice(2, 3)
        n_rows = int(self.counts[chosen].sum())
        if n_rows < 2:
            raise InputError(f"similarities need at least 2 {part} rows, got {n_rows}")
        self._check_finite()
        mean, widths = self._mean(self.parts[chosen]), list(self.widths.values())
        stacked = self._factors(self._about(mean)[chosen]).flatten(0, 1)
        _, *blocks, squares = stacked.split([1, *widths, len(widths)], dim=1)
        norms = torch.stack([block.norm() for block in blocks])
        for name, norm, centre in zip(self.widths, norms, (self.pivot + mean).split(widths), strict=True):
            check_spread(name, norm / n_rows**0.5, centre, f"{n_rows} {part} rows")
        factors = {name: (block / norm).cpu() for name, block, norm in zip(self.widths, blocks, norms, strict=True)}
        squares = squares / norms.square()
        return Centred(factors, (squares.T @ squares).cpu(), n_rows, UNSEEN[self.method])

    def _checked_counts(self) -> tuple[int, int, int]:
        n_first, n_second, n_test = self.counts.tolist()
        if n_first < 1 or n_second < 1 or n_test < 1:
            seen = ", ".join(f"{n} in {name}" for n, name in zip((n_first, n_second, n_test), PARTS, strict=True))
            raise InputError(f"errors need rows in both folds and in the test part, got {seen}")
        return n_first, n_second, n_test

    def scaled(self, columns: Columns | None = None) -> Scaled:
        """The parts centred and scaled on all training rows, whose mean and scale are exact for both methods."""
        counts, slices, gram = self._checked_counts(), self._slices(columns), self.method == "gram"
        self._check_finite()
        parts, mean, squares = (centred_grams if gram else centred_factors)(self.parts, sum(self.widths.values()))
        if columns:
            index = torch.cat([torch.arange(each.start, each.stop) for each in slices.values()]).to(parts.device)
            parts, mean, squares, pivot = parts[:, :, index], mean[index], squares[index], self.pivot[index]
            parts = parts[:, index] if gram else torch.linalg.qr(parts, mode="r").R
        else:
            pivot = self.pivot
        widths = {name: each.stop - each.start for name, each in slices.items()}
        scales = torch.stack([block.sum() for block in squares.split(list(widths.values()))])
        scales = (scales / (counts[0] + counts[1])).sqrt()
        means = (pivot + mean).split(list(widths.values()))
        scalings = {name: Scaling(*each) for name, *each in zip(widths, means, scales, strict=True)}
        for name, scaling in scalings.items():
            check_spread(name, scaling.scale, scaling.mean, f"{counts[0] + counts[1]} training rows")
        inverse = (1 / scales).repeat_interleave(torch.tensor(list(widths.values()), device=parts.device))
        parts *= inverse[:, None] * inverse if gram else inverse
        return Scaled(parts, counts, side_by_side(widths), scalings)

    def _slices(self, columns: Columns | None) -> dict[str, slice]:
        """Where the columns of each matrix stand among those of all."""
        whole = side_by_side(self.widths)
        if columns is None:
            return whole
        return {name: slice(whole[matrix].start, whole[matrix].start + n) for name, (matrix, n) in columns.items()}

    def _check_finite(self) -> None:
        """Raise InputError with the name of the first matrix that held a NaN or an infinity: its diagonal tells."""
        finite = self.parts.diagonal(dim1=1, dim2=2).isfinite().all(0)[1 : -len(self.widths)]
        for name, block in zip(self.widths, finite.split(list(self.widths.values())), strict=True):
            if not bool(block.all()):
                raise InputError(f"{name} held a NaN or an infinity in some row; leave that structure out")

    def _mean(self, parts: Tensor) -> Tensor:
        """The mean of the rows of some parts about the pivot."""
        first = parts[:, 0].sum(0) if self.method == "gram" else torch.linalg.qr(parts.flatten(0, 1), mode="r").R[0]
        return first[1 : -len(self.widths)] / first[0]

    def _factors(self, parts: Tensor) -> Tensor:
        """Matrices with the inner products of the rows: R factors as they are, square roots of Gram matrices."""
        if self.method == "qr":
            return parts
        size = parts.diagonal(dim1=-2, dim2=-1).sqrt()  # columns made alike, or a large matrix would drown a small one
        size = torch.where(size > 0, size, 1.0)
        values, vectors = torch.linalg.eigh(parts / (size[..., None] * size[..., None, :]))
        return values.clamp(min=0).sqrt()[..., None] * vectors.mT * size[..., None, :]

    def _about(self, mean: Tensor) -> Tensor:
        return about(self.parts, -mean, self.widths, self.method)
