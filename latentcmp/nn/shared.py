"""Means over the rows of all processes of a distributed training, with gradients."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from latentcmp.errors import InputError

Group: TypeAlias = "dist.ProcessGroup | Literal['world'] | None"  # a string: not every torch has groups


def check_group(group: Group) -> None:
    """Raise InputError for what is no group that this process belongs to."""
    if group is None or group == "world" or (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        return
    raise InputError(
        f"group must be None, 'world' or a process group of torch.distributed with this process in it, got {group!r}"
    )


def mean_over_rows(sums: Tensor, n_rows: int, group: Group) -> Tensor:
    """Sums over the ``n_rows`` rows of each process, divided by the rows of all processes of the group.

    None is this process alone; "world" is all of them, or this one where torch.distributed is not initialised. The
    gradient that a process gets is the sum of what all of them ask for. Where all compute the same loss, that is the
    gradient of this loss times the number of processes, of which DistributedDataParallel takes the mean.
    """
    if group == "world":
        group = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
    if group is None:
        return sums / n_rows
    total = _Total.apply(torch.cat([sums.flatten(), sums.new_full((1,), n_rows)]), group)
    return (total[:-1] / total[-1]).view(sums.shape)


class _Total(torch.autograd.Function):
    """The sum over processes; that of torch.distributed.nn is deprecated, the functional one has no derivative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(gradient, ctx.group), None
