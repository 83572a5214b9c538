"""Division of a probe among the processes of a group; a single process is a group of one rank."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from latentcmp._runtime.distributed import Group, all_gather, all_sum, initialised_group, rank_and_size

Item = TypeVar("Item")
Value = TypeVar("Value")


class Ranks:
    """The processes of a group, of which rank r runs the batches r, r + size, r + 2 size, ... of a probe.

    Args:
        group: see `latentcmp._runtime.distributed`.

    Raises:
        InputError: the group is neither None nor one that this process is a member of.
    """

    def __init__(self, group: Group = None) -> None:
        self.group = None if group is None else initialised_group(group)
        self.rank, self.size = rank_and_size(self.group)

    def own(self, batches: Sequence[Item]) -> list[Item]:
        """The batches of this rank."""
        return list(batches[self.rank :: self.size])

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in the order of ranks."""
        return all_gather(value, self.group)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        return all_sum(values, self.group)

    def positions(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """For each rank the positions of its rows among all rows, from the number of rows of each of its batches."""
        sizes_of_ranks = self.gather(list(sizes))
        positions: list[list[np.ndarray]] = [[] for _ in sizes_of_ranks]
        start = 0
        for batch in range(sum(map(len, sizes_of_ranks))):
            rank = batch % self.size
            stop = start + sizes_of_ranks[rank][batch // self.size]
            positions[rank].append(np.arange(start, stop))
            start = stop
        return [np.concatenate(parts) if parts else np.empty(0, dtype=np.int64) for parts in positions]

    def whole(self, positions: Sequence[np.ndarray], values: Tensor) -> Tensor:
        """All rows of the probe on the device of `values`, from the rows of every rank."""
        return values if self.group is None else self.assemble(positions, values).to(values.device)

    def assemble(self, positions: Sequence[np.ndarray], values: Tensor) -> Tensor:
        """All rows of the probe on the CPU, from the rows of every rank."""
        parts = self.gather(values.cpu())
        whole = parts[0].new_empty(sum(map(len, positions)), *values.shape[1:])
        for rows, part in zip(positions, parts, strict=True):
            whole[rows] = part
        return whole
