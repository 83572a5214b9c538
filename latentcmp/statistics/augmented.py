"""The rows [1 | X - p | s] of joint statistics, and their transformation to another pivot p."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.ops.centred_rows import centred_rows


class Centred(NamedTuple):
    """Rows of every matrix about their mean, divided by their Frobenius norm, up to inner products.

    Attributes:
        factors: {name: [m, D]} such that X_a' X_b is `factors[a].T @ factors[b]`, float64 on the CPU.
        fourth: [n_names, n_names] sums over rows of ||x||^2 ||y||^2, float64 on the CPU.
        n_rows: number of rows.
        rcond: relative cutoff of singular values of a factor, below which they are rounding.
    """

    factors: dict[str, Tensor]
    fourth: Tensor
    n_rows: int
    rcond: float


def write_augmented(out: Tensor, values: Sequence[Tensor], positions: Tensor, pivot: Tensor) -> None:
    """Put rows of matrices [n, D] at `positions` into out [len(positions), size] (float64) as [1 | X - p | s].

    s holds ||x - p||^2 of the row of every matrix.
    """
    widths = [rows.shape[1] for rows in values]
    ones, *blocks, squares = out.split_with_sizes([1, *widths, len(widths)], dim=1)
    ones.fill_(1)
    for rows, block, centre, square in zip(
        values, blocks, pivot.split_with_sizes(widths), squares.unbind(1), strict=True
    ):
        centred_rows(rows, positions, centre, block, square)


def centred_grams(parts: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centre Gram matrices [3, size, size] by the mean of the training rows.

    Args:
        parts: Gram matrices of fold 1, fold 2 and test.
        width: number of feature columns.

    Returns:
        The centred Gram matrices of features [3, width, width], the mean about the pivot [width], and the sums of
        squares of the centred training rows [width].
    """
    inner = slice(1, 1 + width)
    sums, n = parts[:, 0, inner], parts[:, 0, 0, None]
    mean = (sums[0] + sums[1]) / (n[0] + n[1])
    left = torch.stack([sums - n / 2 * mean, mean.expand_as(sums)], 2)  # S - s m' - m s' + n m m' as one product
    centred = torch.baddbmm(parts[:, inner, inner], left, left.flip(2).mT, alpha=-1)
    return centred, mean, centred[:2].diagonal(dim1=1, dim2=2).sum(0)


def centred_factors(parts: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centre R factors by the mean of the training rows: factors [3, 1 + width, width], else as `centred_grams`."""
    corner = parts[:, 0, 0, None]  # +- sqrt(n); beside it +- sqrt(n) times the mean of the part
    mean = (corner * parts[:, 0, 1 : 1 + width])[:2].sum(0) / corner[:2].square().sum()
    centred = parts[:, : 1 + width, 1 : 1 + width].clone()
    centred[:, 0] -= corner * mean
    return centred, mean, centred[:2].square().sum((0, 1))


def shifted(parts: Tensor, moved: Tensor, widths: Sequence[int]) -> Tensor:
    """Return parts T, where [1 | X - q | s_q] = [1 | X - p | s_p] T and `moved` is p - q.

    T is a unit upper triangle, as ||x - q||^2 = ||x - p||^2 + 2 (p - q).(x - p) + ||p - q||^2. The product is formed
    column by column, so that a NaN in one matrix does not spread to others.
    """
    ones, rows, squares = parts.split_with_sizes([1, len(moved), len(widths)], dim=-1)
    columns = [ones, rows + ones * moved]
    blocks = zip(
        rows.split_with_sizes(list(widths), -1),
        moved.split_with_sizes(list(widths)),
        squares.split_with_sizes([1] * len(widths), -1),
        strict=True,
    )
    for block, by, square in blocks:
        columns.append(square + 2 * block @ by[:, None] + ones * by.square().sum())
    return torch.cat(columns, dim=-1)


def check_spread(name: str, scale: Tensor, mean: Tensor, rows: str) -> None:
    """Raise InputError unless the standard deviation of rows about their mean is above its rounding."""
    if not bool(scale > 8 * torch.finfo(torch.float64).eps * mean.norm()):
        raise InputError(f"{name} is constant over the {rows}; give rows that differ, or leave it out")
