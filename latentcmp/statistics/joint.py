"""One pass over the rows of several models, then every global error between them.

With a column of ones in front and a fixed pivot taken off, the rows of a part are [1 | X - p | s], where s holds
||x - p||^2 of every matrix. Their R factor, or their Gram matrix, is all that global errors and similarities need: it
has the same inner products as the rows, for every pair of models at once, and R factors (by QR of stacked ones) and
Gram matrices (by sums) merge. The column s, which debiased similarities need, comes last and leaves the others alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import without_waiting
from latentcmp._runtime.distributed import Group, State, check_same, initialised_group, merged_by_tree
from latentcmp.errors import InputError
from latentcmp.statistics.augmented import Centred, write_augmented
from latentcmp.statistics.compressed import Compressed
from latentcmp.statistics.readout import UNSEEN, Columns, Method, Part, Readout, about
from latentcmp.statistics.storage import check_tensors, read_statistics, write_statistics
from latentcmp.statistics.streams import BLOCK, FactorStream, GramStream

KIND = "joint statistics"
STATE = ("parts", "counts", "pivot")
MOST = 65_536  # rows that a device holds in float64 at a time


class JointStatistics:
    """Second-order statistics of the rows of several models, in three parts: fold 1, fold 2 and test.

    `widths` names the feature matrices (models, layers, cumulant orders) and their columns. "qr" holds an R factor a
    part, exact to singular values of 1e-9 of the largest and below; "gram" a Gram matrix a part, several times faster,
    blind under 1e-7 of the largest singular value, where it cuts. Both are float64 whatever comes in, and their size
    does not depend on the number of rows. The pivot is the mean of the first rows seen, at most 2048 of the first
    update. How rows are cut into updates, and when `parts` are asked for, changes no more than rounding.
    """

    def __init__(
        self, widths: Mapping[str, int], method: Method = "qr", device: torch.device | str | None = None
    ) -> None:
        if method not in UNSEEN:
            raise InputError(f"method must be one of {', '.join(UNSEEN)}, got {method!r}")
        if not isinstance(widths, Mapping) or not widths or not all(_is_width(n) for n in widths.values()):
            raise InputError(f"widths must name at least one matrix with at least one column, got {widths!r}")
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
        self._parts = parts
        self._streams = [self._stream_of(total) for total in parts] if self.device.type == "cpu" else []

    def update(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        """Add rows: {name: [n, D]} on the device and their parts [n] (int64: 0 fold 1, 1 fold 2, 2 test).

        Parts on the CPU cost a GPU a third of the work of parts on it, where it cannot know whose rows are how many.
        Raises InputError for names, widths, lengths, dtypes or devices that do not fit, and for parts on the CPU
        that are others. Values are not looked at here, which would wait for the device: a NaN or infinity is found
        by `errors`.
        """
        self._check(features, part)
        if not len(part):
            return
        values = [features[name].detach() for name in self.widths]
        if self.pivot is None:
            self.pivot = torch.cat([rows[:BLOCK].mean(0, dtype=torch.float64) for rows in values])
        if self.device.type == "cpu":
            self._stream(values, part, self.pivot)
        elif part.is_cpu:
            self._pick(values, part, self.pivot)
        else:
            self._mask(values, part, self.pivot)

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
        moved = about(other.parts, other.pivot - self.pivot.to(other.device), self.widths, self.method).to(self.device)
        for index in range(3):
            if self.method == "gram":
                self.parts[index] += moved[index]
            else:
                self._add(index, moved[index])
        self.counts += other.counts.to(self.device)

    def all_reduce(self, group: Group = "world") -> None:
        """Hold the rows of all ranks of a group ("world": all ranks of the job) on every rank, in the same bits.

        Every rank of the group calls it once, also one that saw no row; another call would count the rows again.
        Raises InputError, on every rank, where widths or methods differ, and without a process group.
        """
        members = initialised_group(group)
        check_same(f"{self.method} of {self.widths}", self.device, members)
        total = self.holding([tensor.clone() for tensor in self.state()])

        def merge(state: State) -> State:
            total.merge(self.holding(state))
            return total.state()

        merged = self.holding(merged_by_tree(total.state(), merge, self.device, members))
        self.parts, self.counts, self.pivot = merged.parts, merged.counts, merged.pivot

    def errors(self, *args: Any, **options: Any) -> Tensor:
        """`latentcmp.measures.global_errors.global_errors` of these statistics."""
        from latentcmp.measures.global_errors import global_errors

        return global_errors(self, *args, **options)

    def compressed(self, columns: Columns | None = None) -> dict[str, Compressed]:
        """For each matrix, rows that stand for its own: centred and scaled on all training rows, folds and test.

        With `columns`, as in `errors`, for the first columns of matrices.
        """
        return self.readout().compressed(columns)

    def centred(self, part: Part = "train") -> Centred:
        """The training rows (both folds) or the test rows about their own mean, for similarities.

        Raises InputError for another part, for fewer than 2 rows, for a matrix that is constant over them, and where
        a value was not finite.
        """
        return self.readout().centred(part)

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
        if part.dim() != 1 or part.dtype != torch.int64 or part.device.type not in ("cpu", self.device.type):
            where = " or ".join(dict.fromkeys(("cpu", str(self.device))))
            raise InputError(
                f"part must be [n] int64 on {where}, got {part.dtype} {tuple(part.shape)} on {part.device}"
            )
        if part.is_cpu and bool(((part < 0) | (part > 2)).any()):
            raise InputError(f"part must be 0 (fold 1), 1 (fold 2) or 2 (test), got {part.unique().tolist()[:8]}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(part), width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{len(part)}, {width}] on {self.device}, "
                    f"got {tuple(values.shape)} on {values.device}"
                )

    def _stream_of(self, total: Tensor) -> GramStream:
        columns = [1, *self.widths.values(), len(self.widths)]
        return GramStream(total) if self.method == "gram" else FactorStream(total, columns)

    def _stream(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Send rows to the streams of their parts, with no copy of the whole."""
        for index, stream in enumerate(self._streams):
            positions = (part == index).nonzero()[:, 0]
            self.counts[index] += len(positions)
            stream.add(positions, lambda out, chosen: write_augmented(out, values, chosen, pivot))

    def _pick(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Add to every part its own rows, which the host knows."""
        for index in range(3):
            positions = without_waiting((part == index).nonzero()[:, 0], self.device)
            self.counts[index] += len(positions)
            for start in range(0, len(positions), MOST):
                self._add(index, self._rows(values, positions[start : start + MOST], pivot))

    def _mask(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Add all rows to every part, zeros in place of those of others: a device need not say how many there are."""
        for start in range(0, len(part), MOST):
            of_rows = part[start : start + MOST]
            positions = torch.arange(start, start + len(of_rows), device=self.device)
            rows = self._rows(values, positions, pivot)
            for index in range(3):
                chosen = of_rows == index
                self.counts[index] += chosen.sum()
                self._add(index, rows * chosen[:, None])

    def _rows(self, values: list[Tensor], positions: Tensor, pivot: Tensor) -> Tensor:
        rows = self._parts.new_empty(len(positions), len(self._parts[0]))
        write_augmented(rows, values, positions, pivot)
        return rows

    def _add(self, index: int, rows: Tensor) -> None:
        if self.method == "gram":
            self.parts[index].addmm_(rows.T, rows)
            return
        r = torch.linalg.qr(torch.cat([self.parts[index], rows]), mode="r").R
        self.parts[index].copy_(r)

    def readout(self) -> Readout:
        """The state of all rows so far, for measures."""
        return Readout(self.widths, self.method, *self.state())


def _is_width(columns: object) -> bool:
    return isinstance(columns, int | np.integer) and bool(columns >= 1)
