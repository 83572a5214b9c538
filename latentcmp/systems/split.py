"""Splits into training and test rows by a keyed hash of ids or groups: independent of order and machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from latentcmp.errors import InputError
from latentcmp.systems.system import SystemInfo, offsets

PAPER_TEST_ROWS = 1000


@dataclass(frozen=True)
class Split:
    """Test masks; all other rows are training rows.

    Attributes:
        atoms: mask [n_atoms].
        systems: mask [n_systems].
        rule: a description of the split.
    """

    atoms: np.ndarray
    systems: np.ndarray
    rule: str


def split_by_group(systems: Sequence[SystemInfo], test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Split by groups: all atoms of all systems of a group are on one side.

    Args:
        systems: the systems.
        test_fraction: expected fraction of the groups that are test groups, between 0 and 1.
        seed: key of the hash.

    Raises:
        InputError: no group is left on one side.
    """
    test = rows_by_group([system.group for system in systems], len(systems), test_fraction, seed)
    n_groups = len({system.group for system in systems})
    rule = f"by group ({n_groups} groups of {len(systems)} structures), test fraction {test_fraction}, seed {seed}"
    return Split(np.repeat(test, [len(system) for system in systems]), test, rule)


def rows_by_group(groups: Sequence[object], n: int, test_fraction: float = 0.2, seed: int = 0) -> np.ndarray:
    """Return the mask [n] of the test rows: those whose group's label hashes to less than `test_fraction`.

    Raises:
        InputError: there are not n labels, or no group is left on one side.
    """
    if len(groups) != n:
        raise InputError(f"groups must hold one label a row, got {len(groups)} labels for {n} rows")
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
    labels = [str(group) for group in groups]
    sides = {label: _uniform(label, seed) < test_fraction for label in set(labels)}
    tested = sum(sides.values())
    if tested in (0, len(sides)):
        raise InputError(
            f"{len(sides)} groups of rows split into {tested} for testing and {len(sides) - tested} for training; "
            "give more structures of different parents, or another seed or test fraction"
        )
    return np.array([sides[label] for label in labels], dtype=bool)


def parts_by_group(groups: Sequence[object], test_fraction: float = 0.2, seed: int = 0) -> np.ndarray:
    """Return the parts [n] (int64) of rows that arrive in pieces, from each group's label alone.

    2 is test, 0 and 1 are the folds of the training rows.
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
    labels = [str(group.item() if hasattr(group, "item") else group) for group in groups]
    uniform = {label: (_uniform(label, seed) - test_fraction) / (1 - test_fraction) for label in set(labels)}
    parts = {label: 2 if value < 0 else int(value >= 0.5) for label, value in uniform.items()}
    return np.array([parts[label] for label in labels], dtype=np.int64)


def split_as_paper(systems: Sequence[SystemInfo], seed: int = 0) -> Split:
    """Draw 1000 test rows stratified by subset, atoms and structures each (Chorna et al.).

    Half of the rows where 1000 is more than that. Atoms of one structure are on both sides, which makes local errors
    several times too small: use it to compare with the paper only.
    """
    rows = offsets(systems)
    labels = np.array([system.subset for system in systems])
    system_keys = np.array([_uniform(system.id, seed) for system in systems])
    atom_keys = np.array([_uniform(f"{s.id}\0{i}", seed) for s in systems for i in range(len(s))])
    atoms = _stratified(np.repeat(labels, np.diff(rows)), atom_keys)
    structures = _stratified(labels, system_keys)
    rule = f"{atoms.sum()} atoms and {structures.sum()} structures for testing, stratified by subset, seed {seed}"
    return Split(atoms, structures, rule)


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


def _uniform(name: str, seed: int) -> float:
    """A number in [0, 1) from a keyed hash of a name."""
    key = blake2b(name.encode(errors="surrogateescape"), key=str(seed).encode(), digest_size=8)
    return int.from_bytes(key.digest(), "big") / 2**64
