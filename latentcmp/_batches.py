"""Work on matrices in batches: several at once on a device, one on every core of a CPU."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


def batches_for(items: Sequence[Item], device: torch.device) -> list[Sequence[Item]]:
    """Items that one worker takes together: one on a CPU, where cores work side by side, all of them elsewhere."""
    return [[item] for item in items] if device.type == "cpu" else [items]


def map_stacked(function: Callable[[Tensor], Sequence[Tensor]], matrices: Sequence[Tensor]) -> list[list[Tensor]]:
    """What a function of stacks [b, m, n] gives for every matrix, with one call for all matrices of a shape."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    found: dict[int, list[Tensor]] = {}
    for members in by_shape.values():
        results = function(torch.stack([matrices[index] for index in members]))
        found |= {index: list(parts) for index, *parts in zip(members, *results, strict=True)}
    return [found[index] for index in range(len(matrices))]
