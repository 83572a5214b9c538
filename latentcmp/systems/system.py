"""A system: one structure with a name, a parent group, a subset label and an identity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class System:
    """One structure. Positions and cell in Angstrom.

    `id` names it in messages and joins its rows across models; `group` is the parent that decides its side of a
    split (a perturbed copy shares its parent's); `subset` is a label for stratified splits and reports.
    """

    id: str
    atoms: Atoms
    group: str
    subset: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @cached_property
    def key(self) -> str:
        """A hash of its content, by which structures are ordered."""
        return digest(self.atoms)


def digest(atoms: Atoms) -> str:
    """A hash of species, positions, cell and periodicity: the same on every machine, whatever the file order."""
    state = blake2b(digest_size=16)
    for array, dtype in (
        (atoms.numbers, np.int64),
        (atoms.positions, np.float64),
        (atoms.cell.array, np.float64),
        (atoms.pbc, np.uint8),
    ):
        state.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return state.hexdigest()


def set_hash(systems: Iterable[System]) -> str:
    """A hash of a set of systems, free of their order: identities and contents."""
    state = blake2b(digest_size=16)
    for line in sorted(f"{system.id}\0{system.key}" for system in systems):
        state.update(line.encode(errors="surrogateescape"))
    return state.hexdigest()


def in_canonical_order(systems: Iterable[System]) -> list[System]:
    """Sorted by content, then name: what is computed from them is free of the order in which they came."""
    return sorted(systems, key=lambda system: (system.key, system.id))


def offsets(systems: Sequence[System]) -> np.ndarray:
    """CSR offsets [n_systems + 1] (int64) of each system's atoms in the stacked rows."""
    return np.concatenate([[0], np.cumsum([len(system) for system in systems])]).astype(np.int64)
