"""Rows in coordinates in which no direction is small, so that a Gram matrix of them loses nothing (CholeskyQR2).

Fukaya et al., ScalA 2014; Yamamoto et al., ETNA 44, 306 (2015), here one block of rows ahead.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.statistics.triangles import PANEL, add_lower_gram, lift_pivots

INFLATION = 4e6  # of the variance of a whitened column, up to which a Cholesky factor keeps nine digits of it
START = 1e6  # the same of the first rows, to leave room for what later ones add to the bound
GROWTH = 1e5  # of the squared norm of a whitened column, up to which rounding stays near 1e-12 of its size
INDEPENDENT = 1e-6  # of the norm of a column, what those before it must lack of it for a Gram matrix to show it

Block = tuple[slice, Tensor]  # columns, and the triangle [width, width] they are divided by


class Whitening:
    """Rows A [n, size] as Z = A B^-1, with B block diagonal of upper triangles, and the Gram matrix of all of Z.

    How many digits a Cholesky factor of that matrix G keeps is told by the variance inflation of its columns, the
    diagonal of G times that of its inverse. Rows add to G, which makes its inverse smaller, so the inflation can be
    bounded by the first inverse: `most` [size] is what the diagonal of G may come to.
    """

    def __init__(self, blocks: Sequence[Block], gram: Tensor, most: Tensor) -> None:
        self.blocks, self.gram, self.most = blocks, gram, most

    @classmethod
    def by_factor(cls, r: Tensor) -> "Whitening":
        """By the R factor [size, size] of rows that then count as taken, whatever depends on what."""
        lift_pivots(r)
        return cls([(slice(0, len(r)), r)], torch.eye(len(r), dtype=r.dtype), r.new_full((len(r),), GROWTH))

    @classmethod
    def by_matrices(cls, rows: Tensor, widths: Sequence[int]) -> "Whitening | None":
        """By R factors of the matrices that stand side by side in rows, which are taken.

        They are a sixth of the work of a common factor for six matrices. None where the matrices depend on each
        other so much that this does not do.
        """
        ends = list(accumulate(widths))
        columns = [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]
        factors = map_over_cores(lambda chosen: _factor(rows[:, chosen]), columns, rows.device)
        gram = torch.cat([_without_dependent(r) for r in factors]).to(rows.dtype).diag()
        blocks = list(zip(columns, factors, strict=True))
        add_lower_gram(gram, _whitened(blocks, rows, torch.empty_like(rows)))
        lower, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            return None
        inflation = gram.diagonal() * torch.cholesky_inverse(lower).diagonal()
        most = gram.diagonal() * (INFLATION / inflation).clamp(max=GROWTH)
        return cls(blocks, gram, most) if bool((inflation <= START).all()) else None

    def take(self, rows: Tensor, out: Tensor) -> bool:
        """Add rows, with room for their Z. False, and they are not taken, where the factor would lose digits."""
        z = _whitened(self.blocks, rows, out)
        if not bool((self.gram.diagonal() + z.square().sum(0) <= self.most).all()):
            return False
        add_lower_gram(self.gram, z)
        return True

    def write_factor(self, out: Tensor) -> None:
        """Put the R factor of all rows taken, upper triangular, into out [size, size], zero below its diagonal."""
        lower = torch.linalg.cholesky(self.gram)
        for columns, r in self.blocks:
            for start in range(columns.start, columns.stop, PANEL):
                stop = min(start + PANEL, columns.stop)
                inside = slice(start - columns.start, stop - columns.start)
                out[:stop, start:stop] = lower[columns.start : stop, :stop].mT @ r[: inside.stop, inside]


def _whitened(blocks: Sequence[Block], rows: Tensor, out: Tensor) -> Tensor:
    """Rows divided by the triangles, in `out`."""
    for columns, r in blocks:  # in LAPACK's order of memory
        torch.linalg.solve_triangular(r.mT, rows[:, columns].mT, upper=False, out=out[:, columns].mT)
    return out


def _factor(rows: Tensor) -> Tensor:
    """An R factor to divide by: it must make columns of one size, not be exact, so Cholesky's will often do."""
    r, failed = torch.linalg.cholesky_ex(rows.mT @ rows, upper=True)
    if failed or not bool((r.diagonal() > INDEPENDENT * torch.linalg.vector_norm(rows, dim=0)).all()):
        r = torch.linalg.qr(rows, mode="r").R
    return r


def _without_dependent(r: Tensor) -> Tensor:
    """Leave a lifted pivot alone in its row, so that the row it stands for is no more than rounding."""
    lifted = lift_pivots(r)
    r.copy_(torch.where(lifted[:, None], r.diagonal().diag(), r))
    return lifted
