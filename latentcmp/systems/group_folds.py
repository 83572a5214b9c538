"""Folds of groups of rows by a keyed hash of their names: independent of order, position and content."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from latentcmp.errors import InputError
from latentcmp.systems.named_hash import hashed_uniform

N_FOLDS = 5
N_BLOCKS = 20
LEAST_GROUPS = 3  # one tested, one to train on, one to choose the strength by


class Fold(NamedTuple):
    """The parts whose rows are tested, and the training parts in the inner folds that choose the strength."""

    test: tuple[int, ...]
    train: tuple[tuple[int, ...], ...]

    @property
    def training(self) -> tuple[int, ...]:
        """All training parts."""
        return tuple(part for parts in self.train for part in parts)


@dataclass(frozen=True)
class GroupFolds:
    """The block of each row, and the fold of each block.

    Attributes:
        fold_of_block: ascending numbers of the outer folds; every fold is tested once.
    """

    fold_of_block: tuple[int, ...]

    @classmethod
    def of(cls, n_groups: int, n_blocks: int = N_BLOCKS) -> "GroupFolds":
        """Divide into `N_FOLDS` folds and `n_blocks` blocks, fewer where there are fewer groups.

        Raises:
            InputError: there are fewer than `LEAST_GROUPS` groups.
        """
        if n_groups < LEAST_GROUPS:
            raise InputError(
                f"errors need at least {LEAST_GROUPS} groups of rows, one to test and two to train on, got {n_groups}; "
                "give structures of more parents"
            )
        n_folds = min(N_FOLDS, n_groups)
        n_blocks = max(n_folds, min(n_blocks, n_groups))
        return cls(tuple(block * n_folds // n_blocks for block in range(n_blocks)))

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return len(self.fold_of_block)

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """The blocks of each fold."""
        pairs = groupby(range(self.n_blocks), key=self.fold_of_block.__getitem__)
        return [tuple(blocks) for _, blocks in pairs]


def leave_one_out(n_folds: int) -> list[Fold]:
    """Return each of the parts 0 to n_folds - 1 as test rows, with the others to train on."""
    parts = [(part,) for part in range(n_folds)]
    return [Fold(test, tuple(part for part in parts if part != test)) for test in parts]


def block_of_groups(groups: Sequence[object], n_blocks: int, seed: int = 0) -> np.ndarray:
    """Return the block [n] (int64) of every row, from the label of its group.

    Groups are ordered by a keyed hash of their labels and cut into `n_blocks` runs of about as many groups each.
    """
    labels = [str(group) for group in groups]
    names = sorted(set(labels), key=lambda name: (hashed_uniform(name, seed), name))
    block = {name: rank * n_blocks // len(names) for rank, name in enumerate(names)}
    return np.array([block[label] for label in labels], dtype=np.int64)


def fold_of_labels(groups: Sequence[object], seed: int = 0) -> np.ndarray:
    """Return the fold [n] (int64) of rows that arrive in pieces, from the label of each group alone.

    With a hash u in [0, 1) of the label the fold is floor(5 u): folds are uneven, and with few groups some are empty.
    """
    labels = [str(group.item() if hasattr(group, "item") else group) for group in groups]
    fold = {label: int(N_FOLDS * hashed_uniform(label, seed)) for label in set(labels)}
    return np.array([fold[label] for label in labels], dtype=np.int64)
