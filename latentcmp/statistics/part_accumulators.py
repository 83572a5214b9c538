"""Accumulators of the rows of one part into a Gram matrix or an R factor, in place, on any device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CHUNK = 65_536  # rows that a device holds in float64 at a time
Write = Callable[[Tensor, Tensor], None]


class PartAccumulator(ABC):
    """A statistic of rows [n, size].

    Args:
        total: zeros [size, size], float64, where the statistic is kept, on the device of the rows.
        columns: numbers of columns of the matrices that stand side by side in a row; size is their sum.
    """

    def __init__(self, total: Tensor, columns: Sequence[int]) -> None:
        self.total, self.columns = total, list(columns)

    def add(self, positions: Tensor, write: Write) -> None:
        """Add rows: `write(out, positions)` puts those at `positions` into out [len(positions), size]."""
        for start in range(0, len(positions), CHUNK):
            chosen = positions[start : start + CHUNK]
            rows = self.total.new_empty(len(chosen), len(self.total))
            write(rows, chosen)
            self._add_rows(rows)

    @abstractmethod
    def merge(self, total: Tensor) -> None:
        """Add the rows of another accumulator, given what its `finish` wrote."""

    def finish(self, out: Tensor) -> Tensor:
        """Write the statistic of all rows so far into out [size, size], and return it; later rows are not affected."""
        return out.copy_(self.total)

    def compact(self) -> None:  # noqa: B027 - there are no buffers here
        """Hold the statistic alone: complete a pending block, and release buffers."""

    def reset(self) -> None:
        """Remove all rows."""
        self.total.zero_()

    def restart(self, total: Tensor) -> None:
        """Replace all rows by those of another accumulator, given what its `finish` wrote."""
        self.reset()
        self.total.copy_(total)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors that results of these and later rows depend on."""
        return {"total": self.total.clone()}

    @abstractmethod
    def _add_rows(self, rows: Tensor) -> None:
        """Add rows [n, size]."""


class GramAccumulator(PartAccumulator):
    """The Gram matrix of rows."""

    def merge(self, total: Tensor) -> None:
        """Add the rows of another accumulator, given what its `finish` wrote."""
        self.total += total

    def _add_rows(self, rows: Tensor) -> None:
        self.total.addmm_(rows.T, rows)


class FactorAccumulator(PartAccumulator):
    """The R factor of rows, by Householder QR."""

    def merge(self, total: Tensor) -> None:
        """Add the rows of another accumulator, given what its `finish` wrote."""
        self._add_rows(total)

    def _add_rows(self, rows: Tensor) -> None:
        self.total.copy_(torch.linalg.qr(torch.cat([self.total, rows]), mode="r").R)
