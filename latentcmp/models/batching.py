"""How structures are divided into batches and blocks."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from latentcmp.systems.system import AnySystem

BATCH_ATOMS = {"cpu": 64, "cuda": 4096}
BLOCK_ATOMS = 65_536
N_BLOCKS = 1024


def blocks(counts: Sequence[int], batch_atoms: int) -> list[tuple[int, int]]:
    """Ranges of structures that are computed together, from the structures and the batch size alone.

    A model's features change in their last bits with the company they are computed in: batches never reach over the
    end of a block, whatever part of the blocks a process computes.
    """
    return cut_blocks(counts, max(4 * batch_atoms, min(BLOCK_ATOMS, sum(counts) // N_BLOCKS)))


def batches(systems: Iterable[AnySystem], batch_atoms: int) -> Iterator[list[AnySystem]]:
    """Consecutive systems, as many as fit in `batch_atoms` atoms and at least one."""
    batch: list[AnySystem] = []
    size = 0
    for system in systems:
        if batch and size + len(system) > batch_atoms:
            yield batch
            batch, size = [], 0
        batch.append(system)
        size += len(system)
    if batch:
        yield batch


def cut_blocks(counts: Sequence[int], block_rows: int) -> list[tuple[int, int]]:
    """Ranges of consecutive structures, each ended by the structure with which it holds `block_rows` rows or more."""
    ends = np.cumsum(counts)
    blocks, start, done = [], 0, 0
    for stop, end in enumerate(ends.tolist(), 1):
        if end - done >= block_rows or stop == len(ends):
            blocks.append((start, stop))
            start, done = stop, end
    return blocks
