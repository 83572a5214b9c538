"""Which systems every model can take, decided before anything slow starts; the rest listed with a reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from latentcmp.errors import InputError
from latentcmp.systems.system import AnySystem, System

OnUnsupported = Literal["skip", "error"]
BOX_GAP = 12.0  # Angstrom between images along a boxed axis: beyond the cutoff of every model here
CLOSEST = 0.5  # Angstrom: atoms nearer than this (H2 has 0.74) are taken for a mistake in the file


class Limits(Protocol):
    """What a model can take: the part of its card that screening reads."""

    @property
    def name(self) -> str: ...
    @property
    def elements(self) -> frozenset[int]: ...
    @property
    def needs_cell(self) -> bool: ...
    @property
    def isolation_cutoff(self) -> float | None: ...


@dataclass(frozen=True)
class Skip:
    """A system left out for all models, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Screening(Generic[AnySystem]):
    """Systems that every model takes, those left out, and the names of those boxed for models that need a cell.

    `differing` names those of which stored features do not agree in positions or cell, to the last bit.
    """

    systems: list[AnySystem]
    skipped: list[Skip]
    boxed: list[str]
    single_atoms: list[str]
    differing: list[str] = field(default_factory=list)


def screen(
    systems: Sequence[System], models: Iterable[Limits], on_unsupported: OnUnsupported = "skip"
) -> Screening[System]:
    """Keep what all models take. Raises InputError at the first unfit one if `on_unsupported` is "error"."""
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
        raise InputError(f"no structure is left that all models take ({len(skipped)} skipped: {shown})")
    boxes = any(model.needs_cell for model in models)
    boxed = [system.id for system in kept if boxes and _lacks_cell(system.atoms)]
    return Screening(kept, skipped, boxed, [system.id for system in kept if len(system) == 1])


def problem(atoms: Atoms) -> str | None:
    """Why no model should see this structure, or None: no atoms, NaN, coincident atoms, a flat periodic cell."""
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
    """Neighbours on the torus of fractional coordinates, then true distances: linear in the number of atoms."""
    from ase.geometry import minkowski_reduce
    from scipy.spatial import cKDTree

    periodic = in_box(atoms)
    cell = periodic.cell.array
    image = np.linalg.norm(minkowski_reduce(cell)[0], axis=1).min()
    if image < CLOSEST:
        return f"has coincident atoms: each is {image:.3g} A from its own periodic image (closest allowed {CLOSEST})"
    scaled = periodic.get_scaled_positions(wrap=True) % 1.0
    reach = CLOSEST / np.linalg.svd(cell, compute_uv=False)[-1]
    for first, second in cKDTree(scaled, boxsize=1.0).query_pairs(min(reach, 0.5)):
        apart = scaled[first] - scaled[second]
        distance = np.linalg.norm((apart - apart.round()) @ cell)
        if distance < CLOSEST:
            return f"has coincident atoms: {first} and {second} are {distance:.3f} A apart (closest allowed {CLOSEST})"
    return None


def in_box(atoms: Atoms) -> Atoms:
    """The same structure periodic along all axes: 12 A of vacuum along those that were not, none of it felt.

    A copy; a structure with three periodic axes comes back as it is.
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
            return f"has an atom without neighbours within {model.isolation_cutoff:g} A, which {model.name} cannot take"
    return None


def _has_isolated_atom(atoms: Atoms, cutoff: float) -> bool:
    from ase.neighborlist import neighbor_list

    periodic = atoms.cell.lengths()[atoms.pbc]
    if len(periodic) and periodic.min() < cutoff:
        return False  # every atom sees its own image
    return len(np.unique(neighbor_list("i", atoms, cutoff))) < len(atoms)
