"""Rows in, one Gram matrix or one R factor out, at the speed of matrix products on a CPU.

Rows are gathered into blocks of a fixed size, so that results do not depend on how rows were cut into updates.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 2048  # rows: enough for a matrix product to run at full speed, few enough to stay near the caches
PANEL = 256  # columns of a triangle that are not divided further
LINE = 8  # float64 numbers in a cache line
LIMIT = 1e5  # sum of squares of a whitened column up to which a Cholesky factor keeps eleven digits


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

    The first block is factorised by Householder's method. Later rows A are whitened with the factor so far,
    Z = A R^-1, where all directions are of one size and a Gram matrix loses nothing: the factor of all rows is
    chol(I + Z'Z) R (CholeskyQR2, Yamamoto et al., ETNA 44, 306 (2015), one block ahead). A block with directions
    that the factor has not seen goes through Householder's method as well.
    """

    def __init__(self, total: Tensor) -> None:
        super().__init__(total)
        self.z = torch.empty_like(self.block)
        self.whitened: Tensor | None = None
        self.ready = False

    def settle(self) -> None:
        """Bring `total` up to date with all rows."""
        self._empty_block()
        self._fold()

    def _block_rows(self) -> int:
        return max(BLOCK, 5 * len(self.total) // 4)

    def _take(self, rows: Tensor) -> None:
        if self.ready and self._take_whitened(rows):
            return
        self._fold()
        stacked = torch.cat([self.total, rows]) if self.total.any() else rows
        r = torch.linalg.qr(stacked, mode="r").R
        self.total.zero_()[: len(r)] = r
        self.ready = self.ready or len(rows) >= len(self.total)

    def _take_whitened(self, rows: Tensor) -> bool:
        if self.whitened is None:
            _regularise(self.total)
            self.whitened = torch.zeros_like(self.total)
        z = self.z[: len(rows)]
        torch.linalg.solve_triangular(self.total.mT, rows.mT, upper=False, out=z.mT)  # LAPACK's order of memory
        load = self.whitened.diagonal() + z.square().sum(0)
        if not bool(load.max() <= LIMIT):
            return False
        add_lower_gram(self.whitened, z)
        return True

    def _fold(self) -> None:
        """total <- chol(I + whitened) total."""
        if self.whitened is None:
            return
        self.whitened.diagonal().add_(1)
        lower = torch.linalg.cholesky(self.whitened)
        for start in range(0, len(lower), PANEL):
            stop = min(start + PANEL, len(lower))
            self.total[:stop, start:stop] = lower[:stop, :stop].mT @ self.total[:stop, start:stop]
        self.whitened = None


def add_lower_gram(total: Tensor, rows: Tensor) -> None:
    """Add rows' rows to the lower triangle of `total`; what lies above the diagonal is left undefined."""
    size = len(total)
    if size <= PANEL:
        total.addmm_(rows.mT, rows)
        return
    half = -(-size // 2 // LINE) * LINE
    head, tail = slice(None, half), slice(half, None)
    total[tail, head].addmm_(rows[:, tail].mT, rows[:, head])
    add_lower_gram(total[head, head], rows[:, head])
    add_lower_gram(total[tail, tail], rows[:, tail])


def mirror_lower(total: Tensor) -> None:
    """Fill the upper triangle from the lower one."""
    size = len(total)
    if size <= PANEL:
        total.copy_(total.tril() + total.tril(-1).mT)
        return
    half = -(-size // 2 // LINE) * LINE
    head, tail = slice(None, half), slice(half, None)
    total[head, tail] = total[tail, head].mT
    mirror_lower(total[head, head])
    mirror_lower(total[tail, tail])


def _regularise(r: Tensor) -> None:
    """Lift pivots under the rounding of their column to it, so that dependent columns can be divided by."""
    size = torch.linalg.vector_norm(r, dim=0)
    floor = (64 * torch.finfo(r.dtype).eps * size).clamp(min=1e-150)
    pivots = r.diagonal()
    pivots.copy_(torch.where(pivots.abs() < floor, floor, pivots))
