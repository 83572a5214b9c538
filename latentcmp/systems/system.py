"""Systems: structures with an id, a group, a subset label and a hash of their content."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


class SystemInfo(Protocol):
    """The part of a system that splits, orders and hashes read; the length is the number of atoms."""

    @property
    def id(self) -> str:
        """The name, unique in a set."""

    @property
    def group(self) -> str:
        """The group, which a split does not divide."""

    @property
    def subset(self) -> str:
        """The label for stratification."""

    @property
    def digest(self) -> str:
        """The hash of the content."""

    def __len__(self) -> int: ...


AnySystem = TypeVar("AnySystem", bound=SystemInfo)


@dataclass(frozen=True)
class System:
    """One structure.

    Attributes:
        id: names it in messages and joins its rows across models.
        atoms: the structure, positions and cell in Angstrom.
        group: the parent that decides its side of a split; a perturbed copy shares its parent's.
        subset: a label for stratified splits and reports.
    """

    id: str
    atoms: "Atoms"
    group: str
    subset: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @cached_property
    def digest(self) -> str:
        """The hash of the content (`digest`)."""
        return digest(self.atoms)

    @property
    def record(self) -> "SystemRecord":
        """The record that is stored with its features."""
        return SystemRecord(self.id, len(self), self.group, self.subset, self.digest)


@dataclass(frozen=True)
class SystemRecord:
    """A system without its geometry, as it is stored with features.

    Attributes:
        id: as of a `System`.
        n_atoms: number of atoms.
        group: as of a `System`; empty where it is unknown.
        subset: as of a `System`.
        digest: the hash of the content; empty where it is unknown.
    """

    id: str
    n_atoms: int
    group: str = ""
    subset: str = ""
    digest: str = ""

    def __len__(self) -> int:
        return self.n_atoms


def digest(atoms: "Atoms") -> str:
    """Hash species, positions, cell and periodicity: the same on every machine and for every file order."""
    state = blake2b(digest_size=16)
    for array, dtype in (
        (atoms.numbers, np.int64),
        (atoms.positions, np.float64),
        (atoms.cell.array, np.float64),
        (atoms.pbc, np.uint8),
    ):
        state.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return state.hexdigest()


def set_hash(systems: Iterable[SystemInfo]) -> str:
    """Hash the ids and contents of a set of systems, independently of their order."""
    state = blake2b(digest_size=16)
    for line in sorted(f"{system.id}\0{system.digest}" for system in systems):
        state.update(line.encode(errors="surrogateescape"))
    return state.hexdigest()


def in_canonical_order(systems: Iterable[AnySystem]) -> list[AnySystem]:
    """Sort by id, so that results depend neither on the order of the input nor on the last digits of positions.

    Content breaks ties of ids only.
    """
    return sorted(systems, key=lambda system: (system.id, system.digest))


def offsets(systems: Sequence[SystemInfo]) -> np.ndarray:
    """Return the CSR offsets [n_systems + 1] (int64) of the systems' atoms in stacked rows."""
    return np.concatenate([[0], np.cumsum([len(system) for system in systems])]).astype(np.int64)
