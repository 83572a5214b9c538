"""Memory of joint statistics: how many blocks of the folds a level of a comparison can afford."""

import os
from pathlib import Path

from latentcmp.errors import InputError
from latentcmp.systems.group_folds import GroupFolds

HELD = 3
"""Copies of all Gram matrices at the peak: those of all rows, of rows that are merged, and centred ones."""
SHARED = 8 * 10**9
"""Bytes where several processes have to decide alike: ranks and shards."""
GIGABYTE = 10**9


def available() -> int:
    """Return half of the memory that is free, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // 2


def needed(columns: int, n_blocks: int) -> int:
    """Return the bytes of the statistics of so many columns, of all matrices, and blocks."""
    return HELD * n_blocks * columns**2 * 8


def affordable(folds: GroupFolds, columns: int, limit: int, rows: str) -> GroupFolds:
    """Return the folds with their blocks, or without blocks where these do not fit.

    Args:
        folds: the folds with all blocks.
        columns: columns of all matrices together.
        limit: bytes.
        rows: what the rows are, for messages.

    Raises:
        InputError: the folds alone do not fit.
    """
    alone = GroupFolds(tuple(range(len(folds.blocks))))
    for chosen in (folds, alone):
        if needed(columns, chosen.n_blocks) <= limit:
            return chosen
    least = needed(columns, alone.n_blocks) / GIGABYTE
    raise InputError(
        f"the statistics of {columns:,} columns between {rows} need {least:.1f} GB, but {limit / GIGABYTE:.1f} GB may "
        "be used; compare fewer models, lower the order, or raise the memory (--memory)"
    )


def fewer_blocks(folds: GroupFolds, n_blocks: int, columns: int, rows: str) -> list[str]:
    """Return a warning where the folds of a level have no blocks although the comparison has."""
    if folds.n_blocks == n_blocks:
        return []
    return [
        f"intervals of GFRE between {rows} hold the maps fixed, and there is no learning curve: the statistics of "
        f"{n_blocks} blocks of {columns:,} columns need {needed(columns, n_blocks) / GIGABYTE:.1f} GB (--memory)"
    ]
