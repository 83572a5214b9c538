"""Rows in, one Gram matrix or one R factor out, at the speed of matrix products on a CPU.

Rows are gathered into blocks of a fixed size, so that results do not depend on how rows were cut into calls of `add`;
`settle` ends a block, so it does depend, in the last bits, on where a stream that goes on was settled.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentcmp.statistics.triangles import LINE, add_lower_gram, mirror_lower
from latentcmp.statistics.whitening import Whitening

BLOCK = 2048  # rows: enough for a matrix product to run at full speed, few enough to stay near the caches


class GramStream:
    """The Gram matrix of rows [n, size], kept in `total` [size, size] (float64); its lower half is filled by `settle`.

    `write(out, positions)` puts the rows at `positions` into out [len(positions), size].
    """

    def __init__(self, total: Tensor) -> None:
        self.total, self.filled, self.settled = total, 0, True
        size = len(total)
        self.block = total.new_empty(self._block_rows(), -(-size // LINE) * LINE)[:, :size]  # rows begin on a line

    def add(self, positions: Tensor, write: Callable[[Tensor, Tensor], None]) -> None:
        """Take up rows, a block at a time."""
        start = 0
        while start < len(positions):
            chosen = positions[start : start + len(self.block) - self.filled]
            write(self.block[self.filled : self.filled + len(chosen)], chosen)
            start, self.filled = start + len(chosen), self.filled + len(chosen)
            if self.filled == len(self.block):
                self._empty_block()

    def settle(self) -> None:
        """Bring `total` up to date with all rows."""
        self._empty_block()
        if not self.settled:
            mirror_lower(self.total)
            self.settled = True

    def _block_rows(self) -> int:
        return BLOCK

    def _empty_block(self) -> None:
        if self.filled:
            self._take(self.block[: self.filled])
            self.filled = 0

    def _take(self, rows: Tensor) -> None:
        add_lower_gram(self.total, rows)
        self.settled = False


class FactorStream(GramStream):
    """The R factor of rows [n, size], upper triangular, as exact as Householder's and nearly as fast as a Gram matrix.

    Rows are whitened, and the factor comes from the Gram matrix of what they are then: by the factors of the matrices
    of `widths` columns that stand side by side in the first block, or where the matrices are too near to dependent,
    by the factor of all, by Householder's method. A block with directions that those before it lack begins anew.
    """

    def __init__(self, total: Tensor, widths: Sequence[int]) -> None:
        super().__init__(total)
        self.widths = widths
        self.z = torch.empty_like(self.block)
        self.whitening: Whitening | None = None
        self.is_full = False

    def settle(self) -> None:
        """Bring `total` up to date with all rows."""
        self._empty_block()
        self._fold()

    def _block_rows(self) -> int:
        return max(BLOCK, 5 * len(self.total) // 4)

    def _take(self, rows: Tensor) -> None:
        if self.whitening is None and self.is_full:
            self.whitening = Whitening.by_factor(self.total)
        if self.whitening is not None and self.whitening.take(rows, self.z[: len(rows)]):
            return
        self._fold()
        self._begin(torch.cat([self.total, rows]) if self.total.any() else rows)

    def _begin(self, rows: Tensor) -> None:
        self.is_full = len(rows) >= self._block_rows()
        self.whitening = Whitening.by_matrices(rows, self.widths) if self.is_full else None
        if self.whitening is None:
            r = torch.linalg.qr(rows, mode="r").R
            self.total.zero_()[: len(r)] = r

    def _fold(self) -> None:
        if self.whitening is not None:
            self.whitening.write_factor(self.total)
            self.whitening = None
