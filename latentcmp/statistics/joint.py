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

from latentcmp._runtime.devices import copy_without_sync, map_over_cores
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
    """Second-order statistics of the rows of several models, part by part.

    They are float64 for input of any dtype, and their size does not depend on the number of rows.

    Args:
        widths: columns of each feature matrix (model, layer, cumulant order), by name.
        method: "qr" for an R factor of each part, exact to singular values of 1e-9 of the largest and below; "gram" for
            a Gram matrix, several times faster, which resolves singular values down to `RCOND` of the largest.
        device: where the rows are (default: CPU).
        n_parts: number of parts; the default is `RowPart`: fold 1, fold 2 and test.
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
        n_parts: int = len(RowPart),
        pivot: Tensor | None = None,
    ) -> None:
        _check_arguments(widths, method, n_parts, pivot)
        self.widths, self.method = {name: int(width) for name, width in widths.items()}, method
        self.device, self.n_parts = torch.device(device or "cpu"), n_parts
        self._columns = [1, *self.widths.values(), len(self.widths)]
        self._parts = empty_parts(n_parts, method, self._columns, self.device)
        self._counts = torch.zeros(n_parts, dtype=torch.int64, device=self.device)
        self._first_pivot = None if pivot is None else pivot.detach().to(self.device, torch.float64)
        self._pivot = self._first_pivot

    @classmethod
    def of(
        cls, features: Mapping[str, Tensor], part: Tensor, method: Method = "qr", n_parts: int = len(RowPart)
    ) -> "JointStatistics":
        """Return the statistics of the rows {name: [n, D]} of one device, a part on each core at a time.

        No buffer is held for later rows, which `n_parts` buffers of many columns would need.
        """
        widths = {name: values.shape[1] for name, values in features.items()}
        statistics = cls(widths, method, next(iter(features.values())).device, n_parts=n_parts)
        if len(part):
            statistics._check(features, part)
            values = [features[name].detach() for name in widths]
            statistics._pivot = _mean_of_first(values)
            statistics._add_selected(values, part, statistics._pivot, compact=True)
        return statistics

    def update(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        """Add rows, without host synchronisation.

        Args:
            features: {name: [n, D]} on the device. Values are not read: `errors` finds a NaN or an infinity.
            part: part of each row [n], 0 to `n_parts` - 1, int64, on the CPU or the device. On the CPU it costs a GPU
                a third of the work, as the numbers of rows of each part are known.

        Raises:
            InputError: names, widths, lengths, dtypes or devices do not fit, or a part on the CPU is another number.
        """
        self._check(features, part)
        if not len(part):
            return
        values = [features[name].detach() for name in self.widths]
        if self._pivot is None:
            self._pivot = _mean_of_first(values)
        if part.is_cpu:
            self._add_selected(values, part, self._pivot)
        else:
            self._add_masked(values, part, self._pivot)

    def merge(self, other: "JointStatistics") -> None:
        """Add the rows of other statistics of the same widths, method and parts, which are left as they are."""
        if other._kind() != self._kind():
            raise InputError(
                f"only statistics of the same widths, method and parts merge, got {self._kind()} and {other._kind()}"
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
            InputError: on every rank, where widths, methods or parts differ, or there is no process group.
        """
        members = initialised_group(group)
        check_same(self._kind(), self.device, members)
        total = self._holding(self.compute())

        def merge(state: State) -> State:
            total.merge(self._holding(JointMoments(self.widths, self.method, *state)))
            return total.compute().tensors()

        merged = merged_by_tree(total.compute().tensors(), merge, self.device, members)
        self._restart(JointMoments(self.widths, self.method, *merged))

    def compute(self) -> JointMoments:
        """Return the moments of all rows so far, in tensors of their own; later updates are not affected."""
        size = sum(self._columns)
        parts = torch.empty(self.n_parts, size, size, dtype=torch.float64, device=self.device)
        for part, out in zip(self._parts, parts, strict=True):
            part.finish(out)
        pivot = parts.new_zeros(sum(self.widths.values())) if self._pivot is None else self._pivot
        return JointMoments(self.widths, self.method, parts, self._counts.clone(), pivot)

    def finish(self) -> JointMoments:
        """Return the moments of all rows in the tensors that hold them, which take no rows afterwards."""
        self.compact()
        totals = self._parts[0].total._base
        if totals is None or any(part.total._base is not totals for part in self._parts):
            return self.compute()
        pivot = totals.new_zeros(sum(self.widths.values())) if self._pivot is None else self._pivot
        return JointMoments(self.widths, self.method, totals, self._counts, pivot)

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
        for name, part in zip(self._part_names(), self._parts, strict=True):
            state |= prefixed(name, part.state_dict())
        return state | {METADATA: self._metadata()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows by those of a `state_dict`, from any device; results of later rows have the same bits.

        Raises:
            InputError: the state is of another kind, other widths or another method, or its tensors do not fit.
        """
        check_metadata(state, self._metadata())
        tensors = {name: tensor.cpu() for name, tensor in tensors_of(state).items()}
        loaded = blocked_parts(self.n_parts, self.method, self._columns)
        check_tensors("the state", tensors, self._expected(tensors, loaded))
        for name, accumulator in zip(self._part_names(), loaded, strict=True):
            accumulator.load_state_dict(under(name, tensors))
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
        metadata = state[METADATA]
        statistics = cls(metadata["widths"], metadata["method"], device, n_parts=metadata["n_parts"])
        try:
            statistics.load_state_dict(state)
        except InputError as error:
            raise InputError(f"{path} cannot be loaded: {error}") from error
        return statistics

    def _metadata(self) -> Metadata:
        return {"kind": KIND, "widths": self.widths, "method": self.method, "n_parts": self.n_parts}

    def _kind(self) -> str:
        return f"{self.method} of {self.widths} in {self.n_parts} parts"

    def _part_names(self) -> list[str]:
        if self.n_parts == len(RowPart):
            return [part.name.lower() for part in RowPart]
        return [f"part_{part}" for part in range(self.n_parts)]

    def _expected(self, tensors: Mapping[str, Tensor], parts: Sequence[BlockedAccumulator]) -> Expected:
        expected: Expected = {"counts": ((self.n_parts,), torch.int64)}
        if "pivot" in tensors:
            expected["pivot"] = ((sum(self.widths.values()),), torch.float64)
        for name, accumulator in zip(self._part_names(), parts, strict=True):
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
        other = JointStatistics(self.widths, self.method, self.device, n_parts=self.n_parts, pivot=self._first_pivot)
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
        if part.is_cpu and bool(((part < 0) | (part >= self.n_parts)).any()):
            expected = "0 (fold 1), 1 (fold 2) or 2 (test)" if self.n_parts == 3 else f"one of 0 to {self.n_parts - 1}"
            raise InputError(f"part must be {expected}, got {torch.unique(part).tolist()[:8]}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(part), width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{len(part)}, {width}] on {self.device}, "
                    f"got {tuple(values.shape)} on {values.device}"
                )

    def _add_selected(self, values: list[Tensor], part: Tensor, pivot: Tensor, compact: bool = False) -> None:
        """Add to every part its own rows, by positions from the host; release its buffers where none are to come."""

        def write(out: Tensor, positions: Tensor) -> None:
            write_augmented(out, values, positions, pivot)

        def add(index: int) -> None:
            positions = copy_without_sync((part == index).nonzero()[:, 0], self.device)
            self._counts[index] += len(positions)
            self._parts[index].add(positions, write)
            if compact:
                self._parts[index].compact()

        if compact:
            map_over_cores(add, range(self.n_parts), self.device)
        else:  # an update of few rows is over before threads have started
            for index in range(self.n_parts):
                add(index)

    def _add_masked(self, values: list[Tensor], part: Tensor, pivot: Tensor) -> None:
        """Add all rows to every part, those of other parts as zeros, as their number is on the device alone."""
        for start in range(0, len(part), CHUNK):
            of_rows = part[start : start + CHUNK]
            positions = torch.arange(start, start + len(of_rows), device=self.device)
            rows = torch.empty(len(of_rows), sum(self._columns), dtype=torch.float64, device=self.device)
            write_augmented(rows, values, positions, pivot)
            for index, accumulator in enumerate(self._parts):
                mask = of_rows == index
                self._counts[index] += mask.sum()
                accumulator.add(positions, partial(_write_masked, rows, mask))


def _write_masked(rows: Tensor, mask: Tensor, out: Tensor, positions: Tensor) -> None:
    """Put all rows of one chunk into `out`, with zeros where the mask is false."""
    torch.mul(rows, mask[:, None], out=out)


def _mean_of_first(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([rows[:BLOCK].mean(0, dtype=torch.float64) for rows in values])


def _check_arguments(widths: object, method: object, n_parts: int, pivot: Tensor | None) -> None:
    if method not in RCOND:
        raise InputError(f"method must be one of {', '.join(RCOND)}, got {method!r}")
    if not isinstance(widths, Mapping) or not widths or not all(_is_width(n) for n in widths.values()):
        raise InputError(f"widths must name at least one matrix with at least one column, got {widths!r}")
    if n_parts < 1:
        raise InputError(f"n_parts must be at least 1, got {n_parts}")
    if pivot is not None and pivot.shape != (sum(widths.values()),):
        raise InputError(f"pivot must be [{sum(widths.values())}], the columns of all, got {tuple(pivot.shape)}")


def _is_width(columns: object) -> bool:
    return isinstance(columns, int | np.integer) and bool(columns >= 1)
