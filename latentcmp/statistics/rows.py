"""The rows that joint statistics hold, [1 | X - p | s]: how they are made, and what another pivot p does to them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.errors import InputError


class Centred(NamedTuple):
    """Rows of every matrix about their mean, divided by their Frobenius norm, as far as inner products tell.

    `factors` {name: [m, D]} stand for the rows: X_a' X_b is `factors[a].T @ factors[b]`. `fourth` [n_names, n_names]
    holds the sums over rows of ||x||^2 ||y||^2. Float64 on the CPU. Singular values within `unseen` of the largest of
    their factor are rounding.
    """

    factors: dict[str, Tensor]
    fourth: Tensor
    n_rows: int
    unseen: float


def augmented(rows: Tensor, widths: Sequence[int]) -> Tensor:
    """[1 | X - p | s] from X - p: ones in front, the squared row norm of every matrix behind."""
    squares = [block.square().sum(1, keepdim=True) for block in rows.split(list(widths), dim=1)]
    return torch.cat([torch.ones_like(rows[:, :1]), rows, *squares], dim=1)


def shifted(parts: Tensor, moved: Tensor, widths: Sequence[int]) -> Tensor:
    """parts T, where [1 | X - q | s_q] = [1 | X - p | s_p] T and `moved` is p - q.

    T is a unit upper triangle, as ||x - q||^2 = ||x - p||^2 + 2 (p - q).(x - p) + ||p - q||^2. The product is taken
    column by column, so that a NaN in one matrix stays there.
    """
    ones, rows, squares = parts.split([1, len(moved), len(widths)], dim=-1)
    found = [ones, rows + ones * moved]
    blocks = zip(rows.split(list(widths), -1), moved.split(list(widths)), squares.split(1, -1), strict=True)
    for block, by, square in blocks:
        found.append(square + 2 * block @ by[:, None] + ones * by.square().sum())
    return torch.cat(found, dim=-1)


def check_spread(name: str, scale: Tensor, mean: Tensor, rows: str) -> None:
    """Raise InputError unless the standard deviation of rows about their mean is above its rounding."""
    if not bool(scale > 8 * torch.finfo(torch.float64).eps * mean.norm()):
        raise InputError(f"{name} is constant over the {rows}; give rows that differ, or leave it out")
