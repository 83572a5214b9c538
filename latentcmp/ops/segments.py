"""Which rows belong to which system: CSR offsets, and the ways to get them without a host sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.errors import InputError


@dataclass(frozen=True)
class Segments:
    """Rows of a feature matrix grouped by system: system s owns rows ptr[s]:ptr[s + 1] of ``arrange(x)``.

    Args:
        ptr: [n_systems + 1] int64, starting at 0, never falling, ending at n_rows.
        n_rows: the number of rows, known on the host.
        permutation: [n_rows] int64 that brings the rows into system order, or None where they are already.
    """

    ptr: Tensor
    n_rows: int
    permutation: Tensor | None = None

    @classmethod
    def from_counts(cls, counts: Tensor | Sequence[int], n_rows: int | None = None) -> Segments:
        """Segments of ``counts[s]`` consecutive rows each.

        Args:
            counts: [n_systems] integers, none negative; a sequence or a tensor on any device.
            n_rows: their sum; needed where counts live on an accelerator, since reading it would sync.

        Raises:
            InputError: counts is not one-dimensional and integer, holds a negative number (seen on the CPU),
                or lives on an accelerator without n_rows.
        """
        counts = torch.as_tensor(counts, dtype=None if isinstance(counts, Tensor) else torch.int64)
        _check_integers(counts, "counts")
        on_host = counts.device.type == "cpu"
        if on_host and bool((counts < 0).any()):
            raise InputError("counts holds a negative number; give the number of rows of each system")
        if n_rows is None and not on_host:
            raise InputError(f"counts live on {counts.device}: give n_rows (reading their sum would sync)")
        ptr = counts.new_zeros(counts.size(0) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=ptr[1:])
        if on_host and n_rows is not None and int(ptr[-1]) != n_rows:
            raise InputError(f"counts sum to {int(ptr[-1])}, but n_rows is {n_rows}")
        return cls(ptr, int(ptr[-1]) if n_rows is None else n_rows)

    @classmethod
    def from_index(cls, batch: Tensor, n_systems: int | None = None, *, is_sorted: bool | None = None) -> Segments:
        """Segments from a batch vector, the system of each row, sorted or not.

        Rows out of order are brought together by a stable sort: the rows of a system keep the order they
        came in. A CPU vector is looked at and sorted only if it has to be; a vector on an accelerator is
        sorted unless ``is_sorted`` says that it is already, because looking would sync.

        Args:
            batch: [n_rows] integers in 0 .. n_systems - 1.
            n_systems: the number of systems, trailing empty ones included; needed on an accelerator.
            is_sorted: what the caller knows; None to find out.

        Raises:
            InputError: batch is not one-dimensional and integer, holds a system outside 0 .. n_systems - 1 or
                is not sorted although said to be (both seen on the CPU), or n_systems is missing.
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
        """[n_rows] int64: the system of each row of ``arrange(x)``, found by searchsorted (no sync)."""
        return segment_ids(self.ptr, self.n_rows)

    def arrange(self, x: Tensor) -> Tensor:
        """``x`` [n_rows, ...] with the rows of each system together; ``x`` itself where they are already."""
        if x.size(0) != self.n_rows:
            raise InputError(f"x has {x.size(0)} rows, the segments have {self.n_rows}")
        return x if self.permutation is None else x.index_select(0, self.permutation)

    def to(self, device: torch.device | str) -> Segments:
        """The same segments on another device."""
        permutation = None if self.permutation is None else self.permutation.to(device)
        return Segments(self.ptr.to(device), self.n_rows, permutation)


def segment_ids(ptr: Tensor, n_rows: int) -> Tensor:
    """[n_rows] int64: the segment of each row, from CSR offsets ``ptr`` [n_systems + 1], without a sync."""
    rows = torch.arange(n_rows, device=ptr.device)
    return torch.searchsorted(ptr[1:].contiguous(), rows, right=True)


def check_ptr(ptr: Tensor, n_rows: int) -> None:
    """Look at the contents of ``ptr`` (a sync on an accelerator).

    Raises:
        InputError: ptr does not start at 0, falls somewhere, or does not end at n_rows.
    """
    first, last = int(ptr[0]), int(ptr[-1])
    if first != 0 or last != n_rows:
        raise InputError(f"ptr runs from {first} to {last}; it must run from 0 to n_rows = {n_rows}")
    falls = ptr[1:] < ptr[:-1]
    if bool(falls.any()):
        where = int(falls.to(torch.uint8).argmax())
        raise InputError(f"ptr falls from {int(ptr[where])} to {int(ptr[where + 1])} at entry {where + 1}; sort it")


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
        raise InputError(f"batch lives on {batch.device}: give n_systems, reading its maximum would wait for it")
    return int(batch.max()) + 1 if batch.numel() else 0


def _check_index(batch: Tensor, n_systems: int, is_sorted: bool | None) -> bool:
    """Whether a CPU batch vector is sorted, after its contents have been checked."""
    if batch.numel() and (int(batch.min()) < 0 or int(batch.max()) >= n_systems):
        found = f"{int(batch.min())} .. {int(batch.max())}"
        raise InputError(f"batch holds systems {found}; with n_systems = {n_systems} they must be below it, from 0")
    rising = not bool((batch[1:] < batch[:-1]).any())
    if is_sorted and not rising:
        raise InputError("batch is not sorted although is_sorted=True says so; leave is_sorted out")
    return rising
