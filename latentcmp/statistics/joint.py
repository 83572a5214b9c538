"""One pass over the rows of several models, then every global error between them.

With a column of ones in front and a fixed pivot taken off, the rows of a part are [1 | X - p | s], where s holds
||x - p||^2 of every matrix. Their R factor, or their Gram matrix, is all that global errors and similarities need: it
has the same inner products as the rows, for every pair of models at once, and R factors (by QR of stacked ones) and
Gram matrices (by sums) merge. The column s, which debiased similarities need, comes last and leaves the others alone.
"""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.reconstruction.gram_path import FactorSource, GramSource, all_global_errors
from latentcmp.reconstruction.pairs import Compressed, Measure, global_errors
from latentcmp.reconstruction.scaling import Scaling
from latentcmp.reconstruction.solvers import Folds, Solver, checked_alphas
from latentcmp.statistics.reduce import Group, State, check_same, merged_by_tree
from latentcmp.statistics.rows import (
    Centred,
    augmented,
    centred_factors,
    centred_grams,
    check_spread,
    shifted,
    write_augmented,
)
from latentcmp.statistics.storage import check_tensors, read_statistics, write_statistics
from latentcmp.statistics.streams import BLOCK, FactorStream, GramStream

Method = Literal["qr", "gram"]
Part = Literal["train", "test"]
Columns = Mapping[str, tuple[str, int]]
PARTS = ("fold 1", "fold 2", "test")
KIND = "joint statistics"
STATE = ("parts", "counts", "pivot")
UNSEEN: dict[str, float] = {"qr": 0.0, "gram": 1e-7}  # of the largest singular value: the rounding of each method


class JointStatistics:
    """Second-order statistics of the rows of several models, in three parts: fold 1, fold 2 and test.

    `widths` names the feature matrices (models, layers, cumulant orders) and their columns. "qr" holds an R factor a
    part, exact to singular values of 1e-9 of the largest and below; "gram" a Gram matrix a part, several times faster,
    blind under 1e-7 of the largest singular value, where it cuts. Both are float64 whatever comes in, and their size
    does not depend on the number of rows. The pivot is the mean of the first rows seen.
    """

    def __init__(
        self, widths: Mapping[str, int], method: Method = "qr", device: torch.device | str | None = None
    ) -> None:
        if method not in UNSEEN:
            raise InputError(f"method must be one of {', '.join(UNSEEN)}, got {method!r}")
        if not widths or min(widths.values()) < 1:
            raise InputError(f"widths must name at least one matrix with at least one column, got {dict(widths)}")
        self.widths, self.method = dict(widths), method
        self.device = torch.device(device or "cpu")
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        size = 1 + sum(self.widths.values()) + len(self.widths)
        self.parts = torch.zeros(3, size, size, dtype=torch.float64, device=self.device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=self.device)
        self.pivot: Tensor | None = None

    @property
    def parts(self) -> Tensor:
        """The statistic [3, size, size] of all rows so far."""
        for stream in self._streams:
            stream.settle()
        return self._parts

    @parts.setter
    def parts(self, parts: Tensor) -> None:
        stream = GramStream if self.method == "gram" else FactorStream
        self._parts = parts
        self._streams = [stream(total) for total in parts] if self.device.type == "cpu" else []

    def update(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        """Add rows: {name: [n, D]} and their parts [n] (int64: 0 fold 1, 1 fold 2, 2 test), all on the device.

        Raises InputError for names, widths, lengths or devices that do not fit. Values are not looked at here, which
        would wait for the device: a NaN or infinity is found by `errors`.
        """
        self._check(features, part)
        if not len(part):
            return
        values = [features[name].detach() for name in self.widths]
        if self.pivot is None:
            self.pivot = torch.cat([rows[:BLOCK].mean(0, dtype=torch.float64) for rows in values])
        if self.device.type == "cpu":
            self._stream(values, part)
            return
        rows = torch.cat([rows.to(torch.float64) for rows in values], dim=1)
        rows = augmented(rows - self.pivot, list(self.widths.values()))
        for index in range(3):
            chosen = part == index
            self.counts[index] += chosen.sum()
            self._add(index, rows * chosen[:, None])  # no wait on a device

    def merge(self, other: "JointStatistics") -> None:
        """Add the rows that another statistic of the same widths and method has seen."""
        if (other.widths, other.method) != (self.widths, self.method):
            raise InputError(
                f"only statistics of the same widths and method merge, got {self.method} of {self.widths} and "
                f"{other.method} of {other.widths}"
            )
        if other.pivot is None:
            return
        if self.pivot is None:
            self.pivot = other.pivot.to(self.device)
        moved = other._about(self.pivot.to(other.device)).to(self.device)
        for index in range(3):
            if self.method == "gram":
                self.parts[index] += moved[index]
            else:
                self._add(index, moved[index])
        self.counts += other.counts.to(self.device)

    def all_reduce(self, group: Group = None) -> None:
        """Hold the rows of all ranks of a torch.distributed group (None: all ranks) on every rank, in the same bits.

        Every rank of the group calls it once, also one that saw no row; another call would count the rows again.
        Raises InputError, on every rank, where widths or methods differ, and without a process group.
        """
        check_same(f"{self.method} of {self.widths}", self.device, group)
        total = self.holding([tensor.clone() for tensor in self.state()])

        def merge(state: State) -> State:
            total.merge(self.holding(state))
            return total.state()

        merged = self.holding(merged_by_tree(total.state(), merge, self.device, group))
        self.parts, self.counts, self.pivot = merged.parts, merged.counts, merged.pivot

    def errors(
        self,
        measure: Measure = "gfre",
        solver: Solver = "cutoff",
        alphas: np.ndarray | None = None,
        columns: Columns | None = None,
    ) -> Tensor:
        """GFRE or GFRD of all ordered pairs: [n_names, n_names] on the CPU, sources in rows, in the order of `widths`.

        With `columns`, {name: (matrix, n)}, the pairs are of the first n columns of matrices, in their order. Raises
        InputError where a part has too few rows, a matrix is constant over training, or a value was not finite.
        """
        if measure == "gfre" and columns is None:
            return self._global_errors(solver, alphas)
        matrices = list(self.compressed(columns).values())
        rows = [global_errors(source, matrices, measure, solver, alphas, UNSEEN[self.method]) for source in matrices]
        return torch.stack([torch.stack(row) for row in rows]).cpu()

    def compressed(self, columns: Columns | None = None) -> dict[str, Compressed]:
        """For each matrix, rows that stand for its own: centred and scaled on all training rows, folds and test.

        With `columns`, as in `errors`, for the first columns of matrices.
        """
        n_first, n_second, n_test = self._checked_counts()
        assert self.pivot is not None
        self._check_finite()
        mean = self._mean(self.parts[:2])
        about = self._about(self.pivot + mean)[:, : len(mean) + 1, : len(mean) + 1]
        first, second, test = (factor[:, 1:] for factor in self._factors(about))
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
        """The training rows (both folds) or the test rows about their own mean, for similarities.

        Raises InputError for another part, for fewer than 2 rows, for a matrix that is constant over them, and where
        a value was not finite.
        """
        if part not in ("train", "test"):
            raise InputError(f"part must be train (both folds) or test, got {part!r}")
        chosen = slice(0, 2) if part == "train" else slice(2, 3)
        n_rows = int(self.counts[chosen].sum())
        if n_rows < 2:
            raise InputError(f"similarities need at least 2 {part} rows, got {n_rows}")
        assert self.pivot is not None
        self._check_finite()
        centre = self.pivot + self._mean(self.parts[chosen])
        widths = list(self.widths.values())
        stacked = self._factors(self._about(centre)[chosen]).flatten(0, 1)
        _, *blocks, squares = stacked.split([1, *widths, len(widths)], dim=1)
        norms = torch.stack([block.norm() for block in blocks])
        for name, norm, mean in zip(self.widths, norms, centre.split(widths), strict=True):
            check_spread(name, norm / n_rows**0.5, mean, f"{n_rows} {part} rows")
        factors = {name: (block / norm).cpu() for name, block, norm in zip(self.widths, blocks, norms, strict=True)}
        squares = squares / norms.square()
        return Centred(factors, (squares.T @ squares).cpu(), n_rows, UNSEEN[self.method])

    def save(self, path: str | Path) -> None:
        """Write the statistics to a safetensors file, whole or not at all."""
        tensors = dict(zip(STATE, self.state(), strict=True))
        write_statistics(Path(path), KIND, tensors, {"widths": self.widths, "method": self.method})

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "JointStatistics":
        """Read what `save` wrote. Raises InputError for a file that is missing, damaged or of another version."""
        tensors, known = read_statistics(Path(path), KIND)
        found = cls(known["widths"], known["method"], device)
        empty = dict(zip(STATE, found.state(), strict=True))
        check_tensors(Path(path), tensors, {name: (tuple(like.shape), like.dtype) for name, like in empty.items()})
        return found.holding([tensors[name] for name in STATE])

    def state(self) -> State:
        """All that rows have left here, as tensors; the pivot is zero where no row was seen."""
        pivot = self.pivot
        if pivot is None:
            pivot = torch.zeros(sum(self.widths.values()), dtype=torch.float64, device=self.device)
        return [self.parts, self.counts, pivot]

    def holding(self, state: State) -> "JointStatistics":
        """Statistics like these, of another state."""
        found = JointStatistics(self.widths, self.method, self.device)
        found.parts, found.counts, pivot = (tensor.to(self.device) for tensor in state)
        found.pivot = pivot if bool(found.counts.any()) else None
        return found

    def _check(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(part), width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{len(part)}, {width}] on {self.device}, "
                    f"got {tuple(values.shape)} on {values.device}"
                )

    def _stream(self, values: list[Tensor], part: Tensor) -> None:
        """Send rows to the streams of their parts, with no copy of the whole."""
        pivot = self.pivot
        assert pivot is not None
        for index, stream in enumerate(self._streams):
            positions = (part == index).nonzero()[:, 0]
            self.counts[index] += len(positions)
            stream.add(positions, lambda out, chosen: write_augmented(out, values, chosen, pivot))

    def _checked_counts(self) -> tuple[int, int, int]:
        n_first, n_second, n_test = self.counts.tolist()
        if n_first < 1 or n_second < 1 or n_test < 1:
            seen = ", ".join(f"{n} in {name}" for n, name in zip((n_first, n_second, n_test), PARTS, strict=True))
            raise InputError(f"errors need rows in both folds and in the test part, got {seen}")
        return n_first, n_second, n_test

    def _global_errors(self, solver: Solver, alphas: np.ndarray | None) -> Tensor:
        """GFRE of all ordered pairs, every source with all targets at once."""
        counts = self._checked_counts()
        widths, n_training, gram = list(self.widths.values()), counts[0] + counts[1], self.method == "gram"
        assert self.pivot is not None
        self._check_finite()
        parts, mean, squares = (centred_grams if gram else centred_factors)(self.parts, sum(widths))
        scales = (torch.stack([block.sum() for block in squares.split(widths)]) / n_training).sqrt()
        for name, scale, centre in zip(self.widths, scales, (self.pivot + mean).split(widths), strict=True):
            check_spread(name, scale, centre, f"{n_training} training rows")
        inverse = (1 / scales).repeat_interleave(torch.tensor(widths, device=self.device))
        parts *= inverse[:, None] * inverse if gram else inverse
        sources = [(GramSource if gram else FactorSource)(parts, chosen) for chosen in self._slices(None).values()]
        grid = torch.from_numpy(checked_alphas(alphas)).to(self.device)
        return all_global_errors(sources, widths, counts, grid, solver, UNSEEN[self.method]).cpu()

    def _slices(self, columns: Columns | None) -> dict[str, slice]:
        """Where the columns of each matrix stand among those of all."""
        starts = dict(zip(self.widths, accumulate(self.widths.values(), initial=0), strict=False))
        columns = columns or {name: (name, width) for name, width in self.widths.items()}
        return {name: slice(starts[matrix], starts[matrix] + n) for name, (matrix, n) in columns.items()}

    def _add(self, index: int, rows: Tensor) -> None:
        if self.method == "gram":
            self.parts[index].addmm_(rows.T, rows)
            return
        r = torch.linalg.qr(torch.cat([self.parts[index], rows]), mode="r").R
        self.parts[index].copy_(r)

    def _about(self, pivot: Tensor) -> Tensor:
        """The parts as they would be with another pivot."""
        assert self.pivot is not None
        widths, moved = list(self.widths.values()), self.pivot - pivot
        parts = shifted(self.parts, moved, widths)
        return shifted(parts.mT, moved, widths).mT if self.method == "gram" else parts

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
