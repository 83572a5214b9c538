"""Symmetric and triangular matrices, half of whose work can be saved (float64, CPU)."""

import torch
from torch import Tensor

PANEL = 256  # columns of a triangle that are not divided further
LINE = 8  # float64 numbers in a cache line


def add_lower_gram(total: Tensor, rows: Tensor) -> None:
    """Add rows' rows to the lower triangle of `total`; elements above the diagonal are left undefined."""
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


def lift_pivots(r: Tensor) -> Tensor:
    """Raise the pivots of an R factor that are below the rounding of their column to it, so that r is regular.

    A raised pivot adds a row as small as rounding. Returns the mask [size] of raised pivots.
    """
    size = torch.linalg.vector_norm(r, dim=0)
    floor = (64 * torch.finfo(r.dtype).eps * size).clamp(min=1e-150)
    pivots = r.diagonal()
    low: Tensor = pivots.abs() < floor
    pivots.copy_(torch.where(low, floor, pivots))
    return low
