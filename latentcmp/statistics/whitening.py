"""Rows in coordinates in which no direction is small, so that their Gram matrix is exact enough (CholeskyQR2).

Fukaya et al., ScalA 2014; Yamamoto et al., ETNA 44, 306 (2015), here one block of rows ahead.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.statistics.storage import Expected
from latentcmp.statistics.triangles import PANEL, add_lower_gram, lift_pivots

INFLATION = 4e6  # of the variance of a whitened column, up to which a Cholesky factor keeps nine digits of it
START = 1e6  # the same of the first rows: later ones add to the bound
GROWTH = 1e5  # of the squared norm of a whitened column, up to which rounding stays near 1e-12 of its size
INDEPENDENT = (
    1e-6  # least residual of a column given those before it, relative to its norm, that a Gram matrix resolves
)

Block = tuple[slice, Tensor]  # columns, and the triangle [width, width] that they are divided by


class Whitening:
    """Rows A [n, size] as Z = A B^-1 with B block diagonal, of upper triangles, and the Gram matrix of all of Z.

    How many digits a Cholesky factor of that matrix G keeps is told by the variance inflation of its columns, the
    diagonal of G times that of its inverse. Rows add to G, which makes its inverse smaller, so the first inverse bounds
    the inflation.

    Args:
        blocks: the diagonal blocks of B.
        gram: lower triangle of G [size, size].
        most: upper bounds [size] of the diagonal of G, below which its Cholesky factor is exact enough.
        is_common: whether B is one triangle of all columns.
    """

    def __init__(self, blocks: Sequence[Block], gram: Tensor, most: Tensor, is_common: bool = False) -> None:
        self.blocks, self.gram, self.most, self.is_common = list(blocks), gram, most, is_common

    @classmethod
    def by_factor(cls, r: Tensor) -> "Whitening":
        """Whiten by the R factor [size, size] of all rows so far, of any rank; `r` is changed where it is singular."""
        lift_pivots(r)
        gram, most = torch.eye(len(r), dtype=r.dtype), r.new_full((len(r),), GROWTH)
        return cls([(slice(0, len(r)), r)], gram, most, is_common=True)

    @classmethod
    def by_matrices(cls, rows: Tensor, widths: Sequence[int]) -> "Whitening | None":
        """Whiten by R factors of the matrices that stand side by side in `rows`, which are added.

        They are a sixth of the work of a common factor for six matrices. None where the matrices are too near to
        dependent on each other for G to resolve.
        """
        columns = _column_slices(widths)
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

    def copy(self) -> "Whitening":
        """Return the same whitening, to which rows can be added without changing this one."""
        return Whitening(self.blocks, self.gram.clone(), self.most, self.is_common)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors."""
        names = ["factor"] if self.is_common else [f"triangle{index}" for index in range(len(self.blocks))]
        triangles = {name: r.clone() for name, (_, r) in zip(names, self.blocks, strict=True)}
        return {"gram": self.gram.clone(), "most": self.most.clone(), **triangles}

    @classmethod
    def expected_state(cls, state: Mapping[str, Tensor], widths: Sequence[int]) -> Expected:
        """Return the shapes and dtypes that the tensors of `state` must have."""
        size = sum(widths)
        shapes: dict[str, tuple[int, ...]] = {"gram": (size, size), "most": (size,)}
        if "factor" in state:
            shapes["factor"] = (size, size)
        else:
            shapes |= {f"triangle{index}": (width, width) for index, width in enumerate(widths)}
        return {name: (shape, torch.float64) for name, shape in shapes.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], widths: Sequence[int]) -> "Whitening":
        """Make the whitening of a state of the shapes that `expected_state` gives."""
        gram, most = state["gram"].clone(), state["most"].clone()
        if "factor" in state:
            return cls([(slice(0, len(gram)), state["factor"].contiguous())], gram, most, is_common=True)
        columns = _column_slices(widths)
        triangles = [state[f"triangle{index}"].mT.contiguous().mT for index in range(len(columns))]  # as LAPACK's
        return cls(list(zip(columns, triangles, strict=True)), gram, most)

    def add(self, rows: Tensor, out: Tensor) -> bool:
        """Add rows, with room for their Z in `out`; False where the factor would lose digits, and nothing is added."""
        z = _whitened(self.blocks, rows, out)
        if not bool((self.gram.diagonal() + z.square().sum(0) <= self.most).all()):
            return False
        add_lower_gram(self.gram, z)
        return True

    def write_factor(self, out: Tensor) -> None:
        """Put the R factor of all rows, upper triangular, into out [size, size], which is zero below its diagonal."""
        lower = torch.linalg.cholesky(self.gram)
        for columns, r in self.blocks:
            for start in range(columns.start, columns.stop, PANEL):
                stop = min(start + PANEL, columns.stop)
                inside = slice(start - columns.start, stop - columns.start)
                out[:stop, start:stop] = lower[columns.start : stop, :stop].mT @ r[: inside.stop, inside]


def _column_slices(widths: Sequence[int]) -> list[slice]:
    return [slice(end - width, end) for width, end in zip(widths, accumulate(widths), strict=True)]


def _whitened(blocks: Sequence[Block], rows: Tensor, out: Tensor) -> Tensor:
    """Rows divided by the triangles, in `out`."""
    for columns, r in blocks:  # in LAPACK's order of memory
        torch.linalg.solve_triangular(r.mT, rows[:, columns].mT, upper=False, out=out[:, columns].mT)
    return out


def _factor(rows: Tensor) -> Tensor:
    """An R factor to divide by: it must bring columns to one size, not be exact, so that Cholesky's often suffices."""
    r: Tensor
    r, failed = torch.linalg.cholesky_ex(rows.mT @ rows, upper=True)
    if failed or not bool((r.diagonal() > INDEPENDENT * torch.linalg.vector_norm(rows, dim=0)).all()):
        r = torch.linalg.qr(rows, mode="r").R
    return r


def _without_dependent(r: Tensor) -> Tensor:
    """Zero the rest of the row of a lifted pivot, so that the row it stands for is no more than rounding."""
    lifted = lift_pivots(r)
    r.copy_(torch.where(lifted[:, None], r.diagonal().diag(), r))
    return lifted
