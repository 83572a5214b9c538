"""Accumulators of the rows of one part on a CPU, at the speed of matrix products.

Rows are collected into blocks of a fixed size, so that results do not depend on how rows were cut into updates.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy

import torch
from torch import Tensor

from latentcmp.statistics.part_accumulators import PartAccumulator, Write
from latentcmp.statistics.storage import Expected, prefixed, under
from latentcmp.statistics.triangles import LINE, add_lower_gram, mirror_lower
from latentcmp.statistics.whitening import Whitening

BLOCK = 2048  # rows: enough for a matrix product to run at full speed, few enough to stay near the caches


class BlockedAccumulator(PartAccumulator):
    """A statistic whose rows are added block by block; `total` may be incomplete between blocks."""

    def __init__(self, total: Tensor, columns: Sequence[int]) -> None:
        super().__init__(total, columns)
        self._block: Tensor | None = None
        self._filled = 0

    def add(self, positions: Tensor, write: Write) -> None:
        """Add rows: `write(out, positions)` puts those at `positions` into out [len(positions), size]."""
        start = 0
        while start < len(positions):
            block = self._allocated()
            chosen = positions[start : start + len(block) - self._filled]
            write(block[self._filled : self._filled + len(chosen)], chosen)
            start, self._filled = start + len(chosen), self._filled + len(chosen)
            if self._filled == len(block):
                self._add_pending()

    def finish(self, out: Tensor) -> Tensor:
        """Write the statistic of all rows so far into out [size, size], and return it; later rows are not affected."""
        self._copy(out)._complete()
        return out

    def compact(self) -> None:
        """Hold the statistic alone: complete the pending block, and release buffers. Later rows begin a new block."""
        self._complete()
        self._block = None

    def reset(self) -> None:
        """Remove all rows."""
        super().reset()
        self._filled = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors that results of these and later rows depend on."""
        return super().state_dict() | {"pending": self._pending().clone()}

    def expected_state(self, state: Mapping[str, Tensor]) -> Expected:
        """Return the shapes and dtypes that the tensors of `state` must have."""
        size = len(self.total)
        pending = min(len(state.get("pending", ())), self._block_rows() - 1)
        optional: Expected = {"pending": ((pending, size), torch.float64)} if "pending" in state else {}
        return {"total": ((size, size), torch.float64)} | optional

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace all rows by those of a state of the shapes that `expected_state` gives."""
        self.restart(state["total"])
        pending = state.get("pending", self.total[:0])
        if len(pending):
            self._allocated()[: len(pending)] = pending
            self._filled = len(pending)

    def _block_rows(self) -> int:
        return BLOCK

    def _allocated(self) -> Tensor:
        """The block [block_rows, size], whose rows begin on a cache line."""
        if self._block is None:
            size = len(self.total)
            self._block = self.total.new_empty(self._block_rows(), -(-size // LINE) * LINE)[:, :size]
        return self._block

    def _pending(self) -> Tensor:
        return self.total[:0] if self._block is None else self._block[: self._filled]

    def _add_pending(self) -> None:
        if self._filled:
            self._add_rows(self._pending())
            self._filled = 0

    def _copy(self, total: Tensor) -> "BlockedAccumulator":
        """The same rows with another tensor for the total; only the block is shared, which `_complete` reads."""
        other = copy(self)
        other.total = total.copy_(self.total)
        return other

    @abstractmethod
    def _complete(self) -> None:
        """Add the pending rows, and make `total` the statistic of all rows."""


class BlockedGramAccumulator(BlockedAccumulator):
    """The Gram matrix of rows; between blocks only its lower triangle is kept."""

    def merge(self, total: Tensor) -> None:
        """Add the rows of another accumulator, given what its `finish` wrote. Later rows begin a new block."""
        self._complete()
        self.total += total

    def _add_rows(self, rows: Tensor) -> None:
        add_lower_gram(self.total, rows)

    def _complete(self) -> None:
        self._add_pending()
        mirror_lower(self.total)


class BlockedFactorAccumulator(BlockedAccumulator):
    """The R factor of rows, upper triangular, as exact as Householder's and nearly as fast as a Gram matrix.

    Rows are whitened, and the factor follows from the Gram matrix of whitened rows: by the factors of the matrices that
    stand side by side in the first block, or where these are too near to dependent, by the Householder factor of all
    columns. A block with directions that are not in those before it begins a new whitening.
    """

    def __init__(self, total: Tensor, columns: Sequence[int]) -> None:
        super().__init__(total, columns)
        self._z: Tensor | None = None
        self._whitening: Whitening | None = None
        self._is_full = False

    def merge(self, total: Tensor) -> None:
        """Add the rows of another accumulator, given what its `finish` wrote. Later rows begin a new block."""
        self._complete()
        self.total.copy_(torch.linalg.qr(torch.cat([self.total, total]), mode="r").R)

    def compact(self) -> None:
        """Hold the statistic alone: complete the pending block, and release buffers. Later rows begin a new block."""
        super().compact()
        self._z = None

    def reset(self) -> None:
        """Remove all rows."""
        super().reset()
        self._whitening, self._is_full = None, False

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors that results of these and later rows depend on."""
        state = super().state_dict() | {"is_full": torch.tensor(self._is_full)}
        return state | ({} if self._whitening is None else prefixed("whitening", self._whitening.state_dict()))

    def expected_state(self, state: Mapping[str, Tensor]) -> Expected:
        """Return the shapes and dtypes that the tensors of `state` must have."""
        expected = super().expected_state(state)
        if "is_full" in state:
            expected["is_full"] = ((), torch.bool)
        whitening = under("whitening", state)
        if whitening:
            expected |= prefixed("whitening", Whitening.expected_state(whitening, self.columns))
        return expected

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace all rows by those of a state of the shapes that `expected_state` gives."""
        super().load_state_dict(state)
        self._is_full = bool(state.get("is_full", False))
        whitening = under("whitening", state)
        self._whitening = Whitening.from_state_dict(whitening, self.columns) if whitening else None

    def _block_rows(self) -> int:
        return max(BLOCK, 5 * len(self.total) // 4)

    def _copy(self, total: Tensor) -> "BlockedFactorAccumulator":
        other = super()._copy(total)
        assert isinstance(other, BlockedFactorAccumulator)
        other._whitening = self._whitening and self._whitening.copy()
        return other

    def _add_rows(self, rows: Tensor) -> None:
        if self._whitening is None and self._is_full:
            self._whitening = Whitening.by_factor(self.total.clone())
        if self._whitening is not None and self._whitening.add(rows, self._whitened()[: len(rows)]):
            return
        self._fold()
        self._begin(torch.cat([self.total, rows]) if self.total.any() else rows)

    def _whitened(self) -> Tensor:
        """Room for the whitened rows of a block."""
        if self._z is None:
            self._z = torch.empty_like(self._allocated())
        return self._z

    def _begin(self, rows: Tensor) -> None:
        self._is_full = len(rows) >= self._block_rows()
        self._whitening = Whitening.by_matrices(rows, self.columns) if self._is_full else None
        self.total.zero_()
        if self._whitening is None:
            r = torch.linalg.qr(rows, mode="r").R
            self.total[: len(r)] = r

    def _fold(self) -> None:
        """Replace the whitening by the factor that it stands for."""
        if self._whitening is not None:
            self._whitening.write_factor(self.total)
            self._whitening = None

    def _complete(self) -> None:
        self._add_pending()
        self._fold()
