"""Division of structures into batches of a forward, and into blocks of batches."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from latentcmp.systems.system import AnySystem

BATCH_ATOMS = {"cpu": 64, "cuda": 4096}
BLOCK_ATOMS = 65_536
N_BLOCKS = 1024


def blocks(counts: Sequence[int], batch_atoms: int) -> list[tuple[int, int]]:
    """Divide structures into blocks that do not depend on the number of processes.

    The last bits of a model's features depend on the composition of the batch, so no batch extends over the end of a
    block: a block has the same features in whichever process it is computed.

    Args:
        counts: atoms of each structure.
        batch_atoms: atoms in a batch.

    Returns:
        Ranges (start, stop) of structures.
    """
    return cut_blocks(counts, max(4 * batch_atoms, min(BLOCK_ATOMS, sum(counts) // N_BLOCKS)))


def batches(systems: Iterable[AnySystem], batch_atoms: int) -> Iterator[list[AnySystem]]:
    """Yield batches of consecutive systems, as many as fit in `batch_atoms` atoms and at least one."""
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
    """Divide structures into ranges (start, stop), each the shortest with `block_rows` rows or more.

    Args:
        counts: rows of each structure.
        block_rows: rows in a block.
    """
    ends = np.cumsum(counts)
    blocks, start, done = [], 0, 0
    for stop, end in enumerate(ends.tolist(), 1):
        if end - done >= block_rows or stop == len(ends):
            blocks.append((start, stop))
            start, done = stop, end
    return blocks
