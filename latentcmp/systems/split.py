"""Which rows are test rows: a function of a keyed hash of identities, never of order, machine or process."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from latentcmp.errors import InputError
from latentcmp.systems.system import Known, offsets

PAPER_TEST_ROWS = 1000


@dataclass(frozen=True)
class Split:
    """Test masks over atoms [n_atoms] and over systems [n_systems]; all other rows train."""

    atoms: np.ndarray
    systems: np.ndarray
    rule: str


def split_by_group(systems: Sequence[Known], test_fraction: float = 0.2, seed: int = 0) -> Split:
    """All atoms of all systems of a group go to one side; about `test_fraction` of the groups are tested.

    Raises InputError where that leaves no group on one side.
    """
    test = rows_by_group([system.group for system in systems], len(systems), test_fraction, seed)
    n_groups = len({system.group for system in systems})
    rule = f"by group ({n_groups} groups of {len(systems)} structures), test fraction {test_fraction}, seed {seed}"
    return Split(np.repeat(test, [len(system) for system in systems]), test, rule)


def rows_by_group(groups: Sequence[object], n: int, test_fraction: float = 0.2, seed: int = 0) -> np.ndarray:
    """Mask [n] of the test rows: those whose group's label hashes below `test_fraction`.

    Raises InputError for labels that are not n, and where no group is left on one side.
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
    """Parts [n] of rows that arrive in pieces: 2 test, 0 and 1 the training folds, each by its group's label alone."""
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
    labels = [str(group.item() if hasattr(group, "item") else group) for group in groups]
    places = {label: (_uniform(label, seed) - test_fraction) / (1 - test_fraction) for label in set(labels)}
    parts = {label: 2 if place < 0 else int(place >= 0.5) for label, place in places.items()}
    return np.array([parts[label] for label in labels], dtype=np.int64)


def split_as_paper(systems: Sequence[Known], seed: int = 0) -> Split:
    """1000 test rows stratified by subset, by atom for atoms and by structure for structures (Chorna et al.).

    Where 1000 is more than half of the rows, half of them. Atoms of one structure stand on both sides, which
    makes local errors several times too small: use it to compare with the paper only.
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
    wanted = min(PAPER_TEST_ROWS, len(labels) // 2)
    names, counts = np.unique(labels, return_counts=True)
    share = counts * wanted / max(len(labels), 1)
    quota = np.floor(share).astype(int)
    quota[np.argsort(quota - share, kind="stable")[: wanted - quota.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for name, size in zip(names, quota, strict=True):
        members = np.flatnonzero(labels == name)
        mask[members[np.argsort(keys[members], kind="stable")[:size]]] = True
    return mask


def _uniform(name: str, seed: int) -> float:
    """A number in [0, 1) from a keyed hash of a name: the same on every machine."""
    key = blake2b(name.encode(errors="surrogateescape"), key=str(seed).encode(), digest_size=8)
    return int.from_bytes(key.digest(), "big") / 2**64
