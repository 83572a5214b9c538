"""A system: one structure with a name, a parent group, a subset label and an identity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


class Known(Protocol):
    """What splits, orders and hashes ask of a system, at hand or at rest."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def subset(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...


AnySystem = TypeVar("AnySystem", bound=Known)


@dataclass(frozen=True)
class System:
    """One structure. Positions and cell in Angstrom.

    `id` names it in messages and joins its rows across models; `group` is the parent that decides its side of a
    split (a perturbed copy shares its parent's); `subset` is a label for stratified splits and reports.
    """

    id: str
    atoms: "Atoms"
    group: str
    subset: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @cached_property
    def digest(self) -> str:
        """The hash of its content."""
        return digest(self.atoms)

    @property
    def record(self) -> "SystemRecord":
        """What is kept of it beside its features."""
        return SystemRecord(self.id, len(self), self.group, self.subset, self.digest)


@dataclass(frozen=True)
class SystemRecord:
    """A system at rest: all but its geometry, of which the hash `digest` remains ("" where it was never known)."""

    id: str
    n_atoms: int
    group: str = ""
    subset: str = ""
    digest: str = ""

    def __len__(self) -> int:
        return self.n_atoms


def digest(atoms: "Atoms") -> str:
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


def set_hash(systems: Iterable[Known]) -> str:
    """A hash of a set of systems, free of their order: identities and contents."""
    state = blake2b(digest_size=16)
    for line in sorted(f"{system.id}\0{system.digest}" for system in systems):
        state.update(line.encode(errors="surrogateescape"))
    return state.hexdigest()


def in_canonical_order(systems: Iterable[AnySystem]) -> list[AnySystem]:
    """Sorted by content, then name: what is computed from them is free of the order in which they came."""
    return sorted(systems, key=lambda system: (system.digest, system.id))


def offsets(systems: Sequence[Known]) -> np.ndarray:
    """CSR offsets [n_systems + 1] (int64) of each system's atoms in the stacked rows."""
    return np.concatenate([[0], np.cumsum([len(system) for system in systems])]).astype(np.int64)
