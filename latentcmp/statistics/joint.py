"""One pass over the rows of several models, for every global error and similarity between them.

With a column of ones in front and a fixed pivot subtracted, the rows of a part are [1 | X - p | s], where s holds
||x - p||^2 of every matrix. Their R factor, or their Gram matrix, determines global errors and similarities: it has the
same inner products as the rows, for every pair of models at once, and R factors (by QR of stacked ones) and Gram
matrices (by sums) merge. The column s, for debiased similarities, comes last and does not change the others.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.distributed import Group, State, check_same, initialised_group, merged_by_tree
from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.statistics.augmented import write_augmented
from latentcmp.statistics.blocked_accumulators import (
    BLOCK,
    BlockedAccumulator,
)
from latentcmp.statistics.joint_moments import RCOND, Columns, JointMoments, Method
from latentcmp.statistics.joint_parts import blocked_parts, empty_parts
from latentcmp.statistics.part_accumulators import CHUNK
from latentcmp.statistics.storage import (
    METADATA,
    Expected,
    check_metadata,
    check_tensors,
    prefixed,
    read_state,
    tensors_of,
    under,
    write_state,
)
from latentcmp.systems.folds import RowPart

if TYPE_CHECKING:
    from latentcmp.measures.cross_validation import Solver
    from latentcmp.measures.measure import ErrorName

KIND = "joint statistics"


class JointStatistics:
    """Second-order statistics of the rows of several models, in three parts: fold 1, fold 2 and test.

    They are float64 for input of any dtype, and their size does not depend on the number of rows.

    Args:
        widths: columns of each feature matrix (model, layer, cumulant order), by name.
        method: "qr" for an R factor of each part, exact to singular values of 1e-9 of the largest and below; "gram" for
            a Gram matrix, several times faster, which resolves singular values down to `RCOND` of the largest.
        device: where the rows are (default: CPU).
        pivot: point [D] that is subtracted from rows (default: the mean of the first update, of 2048 rows at most).
            With a given pivot, results on a CPU have the same bits however rows are cut into updates.

    Raises:
        InputError: widths, method or pivot do not fit.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        method: Method = "qr",
        device: torch.device | str | None = None,
        *,
        pivot: Tensor | None = None,
    ) -> None:
        _check_arguments(widths, method, pivot)
        self.widths, self.method = {name: int(width) for name, width in widths.items()}, method
        self.device = torch.device(device or "cpu")
        self._columns = [1, *self.widths.values(), len(self.widths)]
        self._parts = empty_parts(method, self._columns, self.device)
        self._counts = torch.zeros(len(RowPart), dtype=torch.int64, device=self.device)
        self._first_pivot = None if pivot is None else pivot.detach().to(self.device, torch.float64)
        self._pivot = self._first_pivot

    def update(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        """Add rows, without host synchronisation.

        Args:
            features: {name: [n, D]} on the device. Values are not read: `errors` finds a NaN or an infinity.
            part: `RowPart` of each row [n], int64, on the CPU or the device. On the CPU it costs a GPU a third of the
                work, as the numbers of rows of each part are known.

        Raises:
            InputError: names, widths, lengths, dtypes or devices do not fit, or a part on the CPU is another number.
        """
        self._check(features, part)
        if not len(part):
            return
        values = [features[name].detach() for name in self.widths]
        if self._pivot is None:
            self._pivot = torch.cat([rows[:BLOCK].mean(0, dtype=torch.float64) for rows in values])
        if part.is_cpu:
            self._add_selected(values, part, self._pivot)
        else:
            self._add_masked(values, part, self._pivot)

    def merge(self, other: "JointStatistics") -> None:
        """Add the rows of other statistics of the same widths and method, which are left as they are."""
        if (list(other.widths.items()), other.method) != (list(self.widths.items()), self.method):
            raise InputError(
                f"only statistics of the same widths and method merge, got {self.method} of {self.widths} and "
                f"{other.method} of {other.widths}"
            )
        if other._pivot is None:
            return
        if self._pivot is None:
            self._pivot = other._pivot.to(self.device)
        moments = other.compute()
        for part, total in zip(self._parts, moments.parts_about(self._pivot).to(self.device), strict=True):
            part.merge(total)
        self._counts += moments.counts.to(self.device)

    def all_reduce(self, group: Group = "world") -> None:
        """Hold the rows of all ranks of a group ("world": all ranks of the job) on every rank, in the same bits.

        Every rank of the group calls it once, also one that saw no row; another call would count the rows again.

        Raises:
            InputError: on every rank, where widths or methods differ, or there is no process group.
        """
        members = initialised_group(group)
        check_same(f"{self.method} of {self.widths}", self.device, members)
        total = self._holding(self.compute())

        def merge(state: State) -> State:
            total.merge(self._holding(JointMoments(self.widths, self.method, *state)))
            return total.compute().tensors()

        merged = merged_by_tree(total.compute().tensors(), merge, self.device, members)
        self._restart(JointMoments(self.widths, self.method, *merged))

    def compute(self) -> JointMoments:
        """Return the moments of all rows so far, in tensors of their own; later updates are not affected."""
        size = sum(self._columns)
        parts = torch.empty(len(RowPart), size, size, dtype=torch.float64, device=self.device)
        for part, out in zip(self._parts, parts, strict=True):
            part.finish(out)
        pivot = parts.new_zeros(sum(self.widths.values())) if self._pivot is None else self._pivot
        return JointMoments(self.widths, self.method, parts, self._counts.clone(), pivot)

    def errors(
        self,
        measure: "ErrorName" = "gfre",
        solver: "Solver" = "cutoff",
        alphas: np.ndarray | None = None,
        columns: Columns | None = None,
    ) -> Tensor:
        """Return `latentcmp.measures.global_errors.global_errors` of these statistics."""
        from latentcmp.measures.global_errors import global_errors

        return global_errors(self, measure, solver, alphas, columns)

    def reset(self) -> None:
        """Remove all rows."""
        for part in self._parts:
            part.reset()
        self._counts.zero_()
        self._pivot = self._first_pivot

    def compact(self) -> None:
        """Release the buffers of pending rows on a CPU, once no more are to come. Results keep their bits."""
        for part in self._parts:
            part.compact()

    def state_dict(self) -> StateDict:
        """Return copies of all tensors, pending rows included, and widths, method and kind under "metadata"."""
        state: StateDict = {"counts": self._counts.clone()}
        if self._pivot is not None:
            state["pivot"] = self._pivot.clone()
        for part in RowPart:
            state |= prefixed(part.name.lower(), self._parts[part].state_dict())
        return state | {METADATA: self._metadata()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows by those of a `state_dict`, from any device; results of later rows have the same bits.

        Raises:
            InputError: the state is of another kind, other widths or another method, or its tensors do not fit.
        """
        check_metadata(state, self._metadata())
        tensors = {name: tensor.cpu() for name, tensor in tensors_of(state).items()}
        loaded = blocked_parts(self.method, self._columns)
        check_tensors("the state", tensors, self._expected(tensors, loaded))
        for part, accumulator in zip(RowPart, loaded, strict=True):
            accumulator.load_state_dict(under(part.name.lower(), tensors))
        if self.device.type == "cpu":
            self._parts = list(loaded)
        else:
            for held, accumulator in zip(self._parts, loaded, strict=True):
                held.restart(accumulator.finish(torch.empty_like(accumulator.total)))
        self._counts.copy_(tensors["counts"])
        self._pivot = tensors["pivot"].to(self.device, copy=True) if "pivot" in tensors else self._first_pivot

    def save(self, path: str | Path) -> None:
        """Write `state_dict` to a safetensors file in one atomic write."""
        write_state(Path(path), self.state_dict())

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "JointStatistics":
        """Read a file of `save`. Raises InputError for a file that is missing, damaged or of another format."""
        state = read_state(Path(path), KIND)
        statistics = cls(state[METADATA]["widths"], state[METADATA]["method"], device)
        try:
            statistics.load_state_dict(state)
        except InputError as error:
            raise InputError(f"{path} cannot be loaded: {error}") from error
        return statistics

    def _metadata(self) -> Metadata:
        return {"kind": KIND, "widths": self.widths, "method": self.method}

    def _expected(self, tensors: Mapping[str, Tensor], parts: Sequence[BlockedAccumulator]) -> Expected:
        expected: Expected = {"counts": ((len(RowPart),), torch.int64)}
        if "pivot" in tensors:
            expected["pivot"] = ((sum(self.widths.values()),), torch.float64)
        for part, accumulator in zip(RowPart, parts, strict=True):
            name = part.name.lower()
            expected |= prefixed(name, accumulator.expected_state(under(name, tensors)))
        return expected

    def _restart(self, moments: JointMoments) -> None:
        """Replace all rows by those of moments."""
        for part, total in zip(self._parts, moments.parts, strict=True):
            part.restart(total)
        self._counts.copy_(moments.counts)
        self._pivot = moments.pivot.to(self.device) if bool(self._counts.any()) else self._first_pivot

    def _holding(self, moments: JointMoments) -> "JointStatistics":
        """Statistics like these, of the rows of moments."""
        other = JointStatistics(self.widths, self.method, self.device, pivot=self._first_pivot)
        other._restart(moments)
        return other

    def _check(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        if part.dim() != 1 or part.dtype != torch.int64 or part.device.type not in ("cpu", self.device.type):
            where = " or ".join(dict.fromkeys(("cpu", str(self.device))))
            raise InputError(
                f"part must be [n] int64 on {where}, got {part.dtype} {tuple(part.shape)} on {part.device}"
            )
        if part.is_cpu and bool(((part < min(RowPart)) | (part > max(RowPart))).any()):
            given = torch.unique(part).tolist()
            raise InputError(f"part must be 0 (fold 1), 1 (fold 2) or 2 (test), got {given[:8]}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(part), width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{len(part)}, {width}] on {self.device}, "
                    f"got {tuple(values.shape)} on {values.device}"
                )

    def _add_selected(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Add to every part its own rows, by positions from the host."""

        def write(out: Tensor, positions: Tensor) -> None:
            write_augmented(out, values, positions, pivot)

        for index, accumulator in zip(RowPart, self._parts, strict=True):
            positions = copy_without_sync((part == index).nonzero()[:, 0], self.device)
            self._counts[index] += len(positions)
            accumulator.add(positions, write)

    def _add_masked(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Add all rows to every part, those of other parts as zeros, as their number is on the device alone."""
        for start in range(0, len(part), CHUNK):
            of_rows = part[start : start + CHUNK]
            positions = torch.arange(start, start + len(of_rows), device=self.device)
            rows = torch.empty(len(of_rows), sum(self._columns), dtype=torch.float64, device=self.device)
            write_augmented(rows, values, positions, pivot)
            for index, accumulator in zip(RowPart, self._parts, strict=True):
                mask = of_rows == index
                self._counts[index] += mask.sum()
                accumulator.add(positions, partial(_write_masked, rows, mask))


def _write_masked(rows: Tensor, mask: Tensor, out: Tensor, positions: Tensor) -> None:
    """Put all rows of one chunk into `out`, with zeros where the mask is false."""
    torch.mul(rows, mask[:, None], out=out)


def _check_arguments(widths: object, method: object, pivot: Tensor | None) -> None:
    if method not in RCOND:
        raise InputError(f"method must be one of {', '.join(RCOND)}, got {method!r}")
    if not isinstance(widths, Mapping) or not widths or not all(_is_width(n) for n in widths.values()):
        raise InputError(f"widths must name at least one matrix with at least one column, got {widths!r}")
    if pivot is not None and pivot.shape != (sum(widths.values()),):
        raise InputError(f"pivot must be [{sum(widths.values())}], the columns of all, got {tuple(pivot.shape)}")


def _is_width(columns: object) -> bool:
    return isinstance(columns, int | np.integer) and bool(columns >= 1)
