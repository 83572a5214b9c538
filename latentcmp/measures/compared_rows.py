"""The rows that similarities compare: of two matrices, or of all matrices of joint statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.matrices import Matrix, as_matrix, like, paired
from latentcmp.statistics.augmented import Centred, check_spread
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments, Part

Statistics: TypeAlias = JointStatistics | JointMoments
Item = TypeVar("Item")


@dataclass(frozen=True)
class ComparedRows:
    """Centred rows of matrices, and the form of the result.

    Args:
        rows: the rows about their mean, of unit Frobenius norm.
        kind: what the rows are, for messages.
        matrix: the matrix X that a scalar is returned for; None where the values of all pairs are.
    """

    rows: Centred
    kind: str
    matrix: Matrix | None

    def result(self, values: Tensor) -> Tensor | np.float64:
        """All values of statistics, else the one of (X, Y), or of X where there is one for each matrix."""
        if self.matrix is None:
            return values
        value: Tensor | np.float64 = like(self.matrix, values.flatten()[values.dim() - 1])
        return value


def compared_rows(X: Statistics | Matrix, Y: Any, part: Part) -> ComparedRows:
    """Centred rows of X and Y (of X alone where Y is X), or of all matrices of joint statistics.

    Raises:
        InputError: the arguments are neither, rows do not fit, or a matrix is constant or not finite.
    """
    if isinstance(X, JointStatistics | JointMoments):
        moments = X.compute() if isinstance(X, JointStatistics) else X
        if Y is not None and Y is not X:
            raise InputError("joint statistics hold all matrices already; give them alone, or two matrices")
        return ComparedRows(moments.centred(part), f"{part} rows", None)
    if Y is None:
        raise InputError("give two matrices with the same rows, or joint statistics")
    return ComparedRows(_centred({"X": as_matrix("X", X)} if Y is X else paired(X, Y)), "rows", X)


def _centred(matrices: dict[str, Tensor]) -> Centred:
    """Rows about their mean, of unit Frobenius norm. Raises InputError for fewer than 2 rows and constant matrices."""
    n = len(next(iter(matrices.values())))
    if n < 2:
        raise InputError(f"similarities need at least 2 rows, got {n}")
    factors, squares = {}, []
    for name, values in matrices.items():
        rows, mean = values.double(), values.double().mean(0)
        norm = (rows - mean).norm()
        check_spread(name, norm / n**0.5, mean, f"{n} rows")
        factors[name] = (rows - mean) / norm
        squares.append(factors[name].square().sum(1))
    stacked = torch.stack(squares)
    return Centred(factors, stacked @ stacked.T, n, 0.0)


def symmetric_values(
    items: Sequence[Item], measure: Callable[[Item, Item], Tensor], device: torch.device | None = None
) -> Tensor:
    """A symmetric measure of all pairs of matrices, or of what stands for them, each computed once.

    Where the device of the items is given, the pairs are distributed over the cores of a CPU.
    """
    n = len(items)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]

    def of_pair(pair: tuple[int, int]) -> Tensor:
        return measure(items[pair[0]], items[pair[1]])

    found = map_over_cores(of_pair, pairs, device) if device else map(of_pair, pairs)
    values = dict(zip(pairs, found, strict=True))
    return torch.stack([values[min(i, j), max(i, j)] for i in range(n) for j in range(n)]).view(n, n)
