"""Splits into folds, or into training and test rows, by a keyed hash of ids or groups: independent of order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentcmp.systems.folds import parts_of
from latentcmp.systems.group_folds import N_BLOCKS, GroupFolds, block_of_groups
from latentcmp.systems.named_hash import hashed_uniform
from latentcmp.systems.system import SystemInfo, offsets

PAPER_TEST_ROWS = 1000


@dataclass(frozen=True)
class Split:
    """The part of every row.

    Attributes:
        atoms: parts [n_atoms], int64: blocks of the folds, or `RowPart` where there are none.
        systems: parts [n_systems].
        rule: a description of the split.
        folds: the fold of each block.
    """

    atoms: np.ndarray
    systems: np.ndarray
    rule: str
    folds: GroupFolds | None = None


def split_into_folds(systems: Sequence[SystemInfo], seed: int = 0, n_blocks: int = N_BLOCKS) -> Split:
    """Divide the groups of systems into folds, each tested once, and into blocks.

    Args:
        systems: the systems.
        seed: key of the hash.
        n_blocks: number of blocks.

    Raises:
        InputError: there are too few groups.
    """
    groups = [system.group for system in systems]
    n_groups = len(set(groups))
    folds = GroupFolds.of(n_groups, n_blocks)
    block = block_of_groups(groups, folds.n_blocks, seed)
    n_folds = len(folds.blocks)
    rule = f"{n_folds} folds by group ({n_groups} groups of {len(systems)} structures), each tested once, seed {seed}"
    return Split(np.repeat(block, [len(system) for system in systems]), block, rule, folds)


def split_as_paper(systems: Sequence[SystemInfo], seed: int = 0) -> Split:
    """Draw 1000 test rows stratified by subset, atoms and structures each (Chorna et al.).

    Half of the rows where 1000 is more than that. Atoms of one structure are on both sides, which makes local errors
    several times too small: use it to compare with the paper only.
    """
    rows = offsets(systems)
    labels = np.array([system.subset for system in systems])
    system_keys = np.array([hashed_uniform(system.id, seed) for system in systems])
    atom_keys = np.array([hashed_uniform(f"{s.id}\0{i}", seed) for s in systems for i in range(len(s))])
    atoms = _stratified(np.repeat(labels, np.diff(rows)), atom_keys)
    structures = _stratified(labels, system_keys)
    rule = f"{atoms.sum()} atoms and {structures.sum()} structures for testing, stratified by subset, seed {seed}"
    return Split(parts_of(atoms), parts_of(structures), rule)


def _stratified(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Mask of the rows with the smallest keys of each label, labels in proportion (largest remainders)."""
    n_test = min(PAPER_TEST_ROWS, len(labels) // 2)
    names, counts = np.unique(labels, return_counts=True)
    share = counts * n_test / max(len(labels), 1)
    quota = np.floor(share).astype(int)
    quota[np.argsort(quota - share, kind="stable")[: n_test - quota.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for name, size in zip(names, quota, strict=True):
        members = np.flatnonzero(labels == name)
        mask[members[np.argsort(keys[members], kind="stable")[:size]]] = True
    return mask
