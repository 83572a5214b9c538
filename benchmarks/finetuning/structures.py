"""A small chemical family, oxides and fluorides of six metals, and what features are probed on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.system import System

STRAIN, RATTLE = 0.04, (0.03, 0.15)  # strain, then the range of the rattle's deviation in Angstrom
PROBE_ATOMS = 6  # the largest crystal prototype probed


def parents() -> Iterator[tuple[str, Atoms]]:
    """15 crystals of 5 to 12 atoms of O, F, Li, Na, K, Mg, Ca, Sr and Ti, at measured lattice constants."""
    rocksalt = {"MgO": 4.21, "CaO": 4.81, "SrO": 5.16, "LiF": 4.03, "NaF": 4.63, "KF": 5.35}
    for name, a in rocksalt.items():
        yield name, _cubic(name, [(0, 0, 0), (0.5, 0.5, 0.5)], 225, a)
    for name, a in {"CaF2": 5.46, "SrF2": 5.80}.items():
        yield name, _cubic(name, [(0, 0, 0), (0.25, 0.25, 0.25)], 225, a)
    for name, a in {"Li2O": 4.62, "Na2O": 5.55}.items():
        yield name, _cubic(name, [(0.25, 0.25, 0.25), (0, 0, 0)], 225, a)
    for name, a, c in (("TiO2", 4.59, 2.96), ("MgF2", 4.62, 3.05)):
        sites = [(0, 0, 0), (0.304, 0.304, 0)]
        yield name, crystal(_symbols(name), sites, spacegroup=136, cellpar=[a, a, c, 90, 90, 90])
    for name, a in {"CaTiO3": 3.84, "SrTiO3": 3.91, "KMgF3": 3.99}.items():
        yield name, _cubic(name, [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], 221, a)


def family(copies: int, seed: int, part: str) -> list[System]:
    """``copies`` strained and rattled copies of every parent; each is a group of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for copy in range(copies):
        for name, atoms in parents():
            label = f"{part}/{name}/{copy}"
            found.append(System(label, _perturbed(atoms, rng), label, part))
    return found


def other_chemistry(limit: int | None = None) -> list[System]:
    """The small crystal prototypes of the built-in set with their perturbed copies, grouped by parent."""
    small = [s for s in builtin_systems() if s.subset.startswith("aflow") and len(s) <= PROBE_ATOMS]
    return small[:limit]


def _perturbed(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    atoms = atoms.copy()
    strain = np.triu(rng.uniform(-STRAIN, STRAIN, (3, 3)))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(scale=rng.uniform(*RATTLE), size=atoms.positions.shape)
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _cubic(name: str, sites: list[tuple[float, float, float]], spacegroup: int, a: float) -> Atoms:
    return crystal(_symbols(name), sites, spacegroup=spacegroup, cellpar=[a, a, a, 90, 90, 90])


def _symbols(name: str) -> list[str]:
    """The elements of a formula, in the order written."""
    return list(Atoms(name).symbols.formula.count())
