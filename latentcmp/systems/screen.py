"""Screening: the systems that every model accepts, and those left out with a reason, before anything slow starts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from latentcmp.errors import InputError
from latentcmp.systems.system import AnySystem, System

OnUnsupported = Literal["skip", "error"]
BOX_GAP = 12.0  # Angstrom between images along a boxed axis: more than the cutoff of every model here
CLOSEST = 0.5  # Angstrom: closer atoms (H2 has 0.74) are an error in the file


class Limits(Protocol):
    """The part of a model's card that screening reads."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers that the model accepts."""

    @property
    def needs_cell(self) -> bool:
        """Whether the model requires three cell vectors."""

    @property
    def isolation_cutoff(self) -> float | None:
        """The distance (Angstrom) within which every atom must have a neighbour; None: no such limit."""


@dataclass(frozen=True)
class Skip:
    """A system left out for all models, and the reason."""

    id: str
    reason: str


@dataclass(frozen=True)
class Screening(Generic[AnySystem]):
    """The result of screening structures, or of joining stored features.

    Attributes:
        systems: those that every model accepts.
        skipped: those left out.
        boxed: ids of those put into a periodic box for models that need a cell (`in_box`).
        single_atoms: ids of those of one atom.
        differing: ids of those whose positions or cells are not bitwise equal in all stored features.
    """

    systems: list[AnySystem]
    skipped: list[Skip]
    boxed: list[str]
    single_atoms: list[str]
    differing: list[str] = field(default_factory=list)


def screen(
    systems: Sequence[System], models: Iterable[Limits], on_unsupported: OnUnsupported = "skip"
) -> Screening[System]:
    """Keep the systems that all models accept.

    Args:
        systems: the structures.
        models: cards of the models.
        on_unsupported: "skip" leaves out the other structures, "error" raises for the first of them.

    Returns:
        The systems in their order, and those left out.

    Raises:
        InputError: no structure is left, or one is left out and `on_unsupported` is "error".
    """
    if on_unsupported not in ("skip", "error"):
        raise InputError(f"on_unsupported must be skip or error, got {on_unsupported!r}")
    models = list(models)
    kept, skipped = [], []
    for system in systems:
        reason = problem(system.atoms) or _unsupported(system.atoms, models)
        if reason is None:
            kept.append(system)
        elif on_unsupported == "error":
            raise InputError(f"structure {system.id!r} {reason}")
        else:
            skipped.append(Skip(system.id, reason))
    if not kept:
        shown = "; ".join(f"{skip.id} {skip.reason}" for skip in skipped[:3])
        raise InputError(f"no structure is left that all models accept ({len(skipped)} skipped: {shown})")
    boxes = any(model.needs_cell for model in models)
    boxed = [system.id for system in kept if boxes and _lacks_cell(system.atoms)]
    return Screening(kept, skipped, boxed, [system.id for system in kept if len(system) == 1])


def problem(atoms: Atoms) -> str | None:
    """Return why a structure is not valid, None if it is: no atoms, NaN, coincident atoms, a singular cell."""
    if not len(atoms):
        return "has no atoms"
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        return "has a NaN or infinite position or cell"
    if not ((atoms.numbers > 0) & (atoms.numbers < 119)).all():
        return f"has an atom of unknown element (Z = {int(atoms.numbers.min())})"
    if atoms.pbc.any() and np.linalg.matrix_rank(atoms.cell.array[atoms.pbc]) < atoms.pbc.sum():
        return "is periodic along an axis whose cell vector is zero or depends on the others"
    return _coincidence(atoms)


def _coincidence(atoms: Atoms) -> str | None:
    """Search a k-d tree of periodic fractional coordinates, then compare distances: O(n log n) in the atoms."""
    from ase.geometry import minkowski_reduce
    from scipy.spatial import cKDTree

    periodic = in_box(atoms)
    cell = periodic.cell.array
    image = np.linalg.norm(minkowski_reduce(cell)[0], axis=1).min()
    if image < CLOSEST:
        return f"has coincident atoms: each is {image:.3g} A from its own periodic image (closest allowed {CLOSEST})"
    scaled = periodic.get_scaled_positions(wrap=True) % 1.0
    radius = CLOSEST / np.linalg.svd(cell, compute_uv=False)[-1]
    for first, second in cKDTree(scaled, boxsize=1.0).query_pairs(min(radius, 0.5)):
        difference = scaled[first] - scaled[second]
        distance = np.linalg.norm((difference - difference.round()) @ cell)
        if distance < CLOSEST:
            return f"has coincident atoms: {first} and {second} are {distance:.3f} A apart (closest allowed {CLOSEST})"
    return None


def in_box(atoms: Atoms) -> Atoms:
    """Return a copy that is periodic along all axes, with 12 A of vacuum along those that were not.

    The vacuum is larger than the cutoff of every model, so features do not change. A structure that is periodic along
    three axes is returned itself.
    """
    if not _lacks_cell(atoms):
        return atoms
    boxed = atoms.copy()
    boxed.center(vacuum=BOX_GAP / 2, axis=tuple(np.flatnonzero(~atoms.pbc).tolist()))
    boxed.pbc = True
    return boxed


def _lacks_cell(atoms: Atoms) -> bool:
    return not atoms.pbc.all()


def _unsupported(atoms: Atoms, models: Sequence[Limits]) -> str | None:
    species = set(atoms.numbers.tolist())
    for model in models:
        unknown = sorted(species - model.elements)
        if unknown:
            return f"has {', '.join(chemical_symbols[z] for z in unknown)}, unknown to {model.name}"
        if model.isolation_cutoff and _has_isolated_atom(atoms, model.isolation_cutoff):
            return f"has an atom without neighbours within {model.isolation_cutoff:g} A, which {model.name} needs"
    return None


def _has_isolated_atom(atoms: Atoms, cutoff: float) -> bool:
    from ase.neighborlist import neighbor_list

    periodic = atoms.cell.lengths()[atoms.pbc]
    if len(periodic) and periodic.min() < cutoff:
        return False  # every atom has its own image as a neighbour
    return len(np.unique(neighbor_list("i", atoms, cutoff))) < len(atoms)
