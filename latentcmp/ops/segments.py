"""Segments of rows, one for each system, as CSR offsets computed without host synchronisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.errors import InputError


@dataclass(frozen=True)
class Segments:
    """Rows of a feature matrix grouped by system: system s owns rows ptr[s]:ptr[s + 1] of `arrange(x)`.

    Args:
        ptr: [n_systems + 1] int64, from 0 to n_rows without decreasing.
        n_rows: the number of rows, on the host.
        permutation: [n_rows] int64 that sorts the rows by system, or None where they are sorted.
    """

    ptr: Tensor
    n_rows: int
    permutation: Tensor | None = None

    @classmethod
    def from_counts(cls, counts: Tensor | Sequence[int], n_rows: int | None = None) -> Segments:
        """Make segments of `counts[s]` consecutive rows each.

        Args:
            counts: [n_systems] integers, none negative; a sequence or a tensor on any device.
            n_rows: their sum; required where counts are on an accelerator, because reading it would synchronise.

        Raises:
            InputError: counts is not one-dimensional and integer, holds a negative number (checked on the CPU),
                or is on an accelerator and n_rows is not given.
        """
        counts = torch.as_tensor(counts, dtype=None if isinstance(counts, Tensor) else torch.int64)
        _check_integers(counts, "counts")
        on_host = counts.device.type == "cpu"
        if on_host and bool((counts < 0).any()):
            raise InputError("counts holds a negative number; give the number of rows of each system")
        if n_rows is None and not on_host:
            raise InputError(f"counts are on {counts.device}: give n_rows, because reading their sum would synchronise")
        ptr = counts.new_zeros(counts.size(0) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=ptr[1:])
        if on_host and n_rows is not None and int(ptr[-1]) != n_rows:
            raise InputError(f"counts sum to {int(ptr[-1])}, but n_rows is {n_rows}")
        return cls(ptr, int(ptr[-1]) if n_rows is None else n_rows)

    @classmethod
    def from_index(cls, batch: Tensor, n_systems: int | None = None, *, is_sorted: bool | None = None) -> Segments:
        """Make segments from a batch vector, the system of each row, sorted or not.

        The sort is stable: the rows of a system keep their order. A CPU vector is sorted only if it is not sorted
        already; a vector on an accelerator is sorted unless `is_sorted` is set, because a check would synchronise.

        Args:
            batch: [n_rows] integers in 0 .. n_systems - 1.
            n_systems: the number of systems, trailing empty ones included; required on an accelerator.
            is_sorted: whether the vector is sorted; None to check it.

        Raises:
            InputError: batch is not one-dimensional and integer, holds a system outside 0 .. n_systems - 1 or
                is not sorted although is_sorted is set (both checked on the CPU), or n_systems is missing.
        """
        _check_integers(batch, "batch")
        on_host = batch.device.type == "cpu"
        if n_systems is None:
            n_systems = _count_systems(batch)
        if on_host:
            is_sorted = _check_index(batch, n_systems, is_sorted)
        permutation = None
        if not is_sorted:
            batch, permutation = torch.sort(batch, stable=True)
        edges = torch.arange(n_systems + 1, device=batch.device, dtype=batch.dtype)
        return cls(torch.searchsorted(batch.contiguous(), edges), batch.size(0), permutation)

    @property
    def n_systems(self) -> int:
        """The number of systems, empty ones included."""
        return self.ptr.size(0) - 1

    @property
    def counts(self) -> Tensor:
        """[n_systems] int64: the number of rows of each system."""
        return self.ptr.diff()

    def row_ids(self) -> Tensor:
        """[n_rows] int64: the system of each row of `arrange(x)`, without host synchronisation."""
        return segment_ids(self.ptr, self.n_rows)

    def arrange(self, x: Tensor) -> Tensor:
        """The rows of x [n_rows, ...] sorted by system; x itself where they are sorted."""
        if x.size(0) != self.n_rows:
            raise InputError(f"x has {x.size(0)} rows, the segments have {self.n_rows}")
        return x if self.permutation is None else x.index_select(0, self.permutation)

    def to(self, device: torch.device | str) -> Segments:
        """The same segments on another device."""
        permutation = None if self.permutation is None else self.permutation.to(device)
        return Segments(self.ptr.to(device), self.n_rows, permutation)


def segment_ids(ptr: Tensor, n_rows: int) -> Tensor:
    """[n_rows] int64: the segment of each row, from CSR offsets ptr [n_systems + 1], without host synchronisation."""
    rows = torch.arange(n_rows, device=ptr.device)
    return torch.searchsorted(ptr[1:].contiguous(), rows, right=True)


def check_ptr(ptr: Tensor, n_rows: int) -> None:
    """Check the values of ptr, which synchronises on an accelerator.

    Raises:
        InputError: ptr does not start at 0, decreases, or does not end at n_rows.
    """
    first, last = int(ptr[0]), int(ptr[-1])
    if first != 0 or last != n_rows:
        raise InputError(f"ptr runs from {first} to {last}; it must run from 0 to n_rows = {n_rows}")
    decreases = ptr[1:] < ptr[:-1]
    if bool(decreases.any()):
        where = int(decreases.to(torch.uint8).argmax())
        raise InputError(f"ptr decreases from {int(ptr[where])} to {int(ptr[where + 1])} at entry {where + 1}; sort it")


def _check_integers(values: Tensor, name: str) -> None:
    if values.dim() != 1 or values.dtype not in (
        torch.int64,
        torch.int32,
        torch.int16,
        torch.uint8,
        torch.int8,
    ):
        raise InputError(f"{name} must be a one-dimensional integer tensor, got {values.dtype} {tuple(values.shape)}")


def _count_systems(batch: Tensor) -> int:
    if batch.device.type != "cpu":
        raise InputError(f"batch is on {batch.device}: give n_systems, because reading its maximum would synchronise")
    return int(batch.max()) + 1 if batch.numel() else 0


def _check_index(batch: Tensor, n_systems: int, is_sorted: bool | None) -> bool:
    """Check the values of a CPU batch vector; whether it is sorted."""
    if batch.numel() and (int(batch.min()) < 0 or int(batch.max()) >= n_systems):
        given = f"{int(batch.min())} .. {int(batch.max())}"
        raise InputError(f"batch holds systems {given}, expected 0 .. {n_systems - 1} for n_systems = {n_systems}")
    ascending = not bool((batch[1:] < batch[:-1]).any())
    if is_sorted and not ascending:
        raise InputError("batch is not sorted, but is_sorted=True was given; leave is_sorted out")
    return ascending
