"""Reduction of equivariant columns to invariant ones: l = 0 columns, and optionally norms of l > 0 channels."""

from typing import Literal

import torch
from torch import Tensor

from latentcmp.errors import InputError

Reduce = Literal["invariant", "norms", "full"]
REDUCTIONS: tuple[Reduce, ...] = ("invariant", "norms", "full")


def reduce_columns(values: Tensor, irreps: str | None, reduce: Reduce = "invariant") -> Tensor:
    """Reduce the columns of activations in an e3nn layout.

    Args:
        values: activations [..., D].
        irreps: the layout (multiplicity-major, m fastest); None: all columns are invariant.
        reduce: "invariant" keeps the l = 0 columns, "norms" appends the norm of every l > 0 channel, "full" keeps all
            columns, which rotate with the structure.

    Returns:
        Activations [..., D'].

    Raises:
        InputError: the layout does not have D columns, or no column is kept.

    Examples:
        >>> values = torch.tensor([[5.0, 3.0, 0.0, 4.0]])
        >>> reduce_columns(values, "1x0e+1x1o", "norms")
        tensor([[5., 5.]])
    """
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce must be one of {', '.join(REDUCTIONS)}, got {reduce!r}")
    if irreps is None or reduce == "full":
        return values
    parts = _blocks(irreps, values.shape[-1])
    scalars = [values[..., start:stop] for start, stop, degree in parts if degree == 0]
    norms = [_norms(values[..., start:stop], degree) for start, stop, degree in parts if degree > 0]
    chosen = scalars + (norms if reduce == "norms" else [])
    if not chosen:
        raise InputError(f"the layout {irreps} has no l = 0 column; ask for reduce='norms'")
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)


def _norms(block: Tensor, degree: int) -> Tensor:
    return block.unflatten(-1, (-1, 2 * degree + 1)).norm(dim=-1)


def _blocks(irreps: str, width: int) -> list[tuple[int, int, int]]:
    """Start, stop and degree of every block of the layout."""
    from e3nn.o3 import Irreps

    layout = Irreps(irreps)
    if layout.dim != width:
        raise InputError(f"the layout {irreps} has {layout.dim} columns, but the activation has {width}")
    return [(part.start, part.stop, irrep.ir.l) for part, irrep in zip(layout.slices(), layout, strict=True)]
