"""The processes that share a probe; one process is the case of one rank."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist
from torch import Tensor

from latentcmp.errors import InputError

Item = TypeVar("Item")


class Ranks:
    """A process group, or None for this process alone. Batch i of a probe is run by rank i modulo their number."""

    def __init__(self, group: Any = None) -> None:
        if group is not None and not (dist.is_available() and dist.is_initialized()):
            raise InputError("group was given, but torch.distributed is not initialised; call init_process_group first")
        self.group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)

    def own(self, batches: Sequence[Item]) -> list[Item]:
        """The batches of this rank."""
        return list(batches[self.rank :: self.size])

    def gather(self, value: Any) -> list[Any]:
        """What every rank gives, in the order of ranks."""
        if self.group is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def positions(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """For each rank the places of its rows among all rows, from the number of rows of its batches."""
        of_ranks = self.gather(list(sizes))
        found: list[list[np.ndarray]] = [[] for _ in of_ranks]
        start = 0
        for batch in range(sum(map(len, of_ranks))):
            rank, place = batch % self.size, batch // self.size
            stop = start + of_ranks[rank][place]
            found[rank].append(np.arange(start, stop))
            start = stop
        return [np.concatenate(parts) if parts else np.empty(0, dtype=np.int64) for parts in found]

    def whole(self, positions: Sequence[np.ndarray], values: Tensor) -> Tensor:
        """All rows of the probe where this process's rows lie; on one process they are all."""
        return values if self.group is None else self.assemble(positions, values).to(values.device)

    def assemble(self, positions: Sequence[np.ndarray], values: Tensor) -> Tensor:
        """All rows of the probe on the CPU, from the rows of every rank."""
        parts = self.gather(values.cpu())
        whole = parts[0].new_empty(sum(map(len, positions)), *values.shape[1:])
        for places, part in zip(positions, parts, strict=True):
            whole[places] = part
        return whole
