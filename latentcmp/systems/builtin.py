"""The built-in structures: 812 systems, 7,395 atoms, 82 elements, from the data of ASE and pymatgen.

Crystal prototypes (AFLOW) and strained, rattled copies of them, elemental crystals (dcdft), molecules (G2),
noncovalent dimers (S22) and elemental slabs. All are periodic along three axes, molecules in a box of vacuum, so that
every model accepts them. Perturbations are seeded by the id of each structure.

Two kinds of structures are left out, because a single one can hold most of the variance of the features. In one, two
atoms are closer than `MIN_DISTANCE` of the sum of their covalent radii, which no training data have; the rule applies
to each structure, so that a copy may be kept without its prototype. The other are the noble gases, whose elements
occur in no other group and can only be extrapolated to.
"""

import gzip
import json
from collections.abc import Iterator
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from latentcmp._runtime.types import Metadata
from latentcmp.errors import MissingPackageError
from latentcmp.systems.neighbours import neighbour_pairs
from latentcmp.systems.system import System

NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})
ELEMENTS = frozenset([*range(1, 84), *range(89, 95)]) - NOBLE_GASES
MAX_PROTOTYPE_ATOMS = 40
STRAIN, RATTLE, SLAB_RATTLE, VACUUM = 0.04, 0.08, 0.03, 6.0  # strain, then Angstrom
MIN_DISTANCE = 0.75  # of two atoms, as a fraction of the sum of their covalent radii: all molecules have more


def builtin_systems() -> list[System]:
    """Return the default set in a fixed order. Raises MissingPackageError where pymatgen is not installed."""
    prototypes = list(_prototypes())
    copies = map(_perturbed, prototypes)
    systems = [*prototypes, *copies, *_elements(), *_molecules("g2"), *_molecules("s22"), *_slabs()]
    return [system for system in systems if not _overlapping(system.atoms)]


def _prototypes() -> Iterator[System]:
    seen: dict[str, int] = {}
    for entry in _prototype_entries():
        atoms = _from_snl(entry["snl"])
        name = f"aflow/{entry['tags']['aflow']}/{atoms.get_chemical_formula()}"
        seen[name] = seen.get(name, 0) + 1
        if len(atoms) <= MAX_PROTOTYPE_ATOMS and _is_supported(atoms):
            id_ = name if seen[name] == 1 else f"{name}#{seen[name]}"
            yield System(id_, atoms, _parent(id_, atoms), "aflow")


def _perturbed(prototype: System) -> System:
    id_ = f"{prototype.id}/perturbed"
    rng = _rng(id_)
    atoms = prototype.atoms.copy()
    strain = np.triu(rng.uniform(-STRAIN, STRAIN, (3, 3)))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(scale=RATTLE, size=atoms.positions.shape)
    return System(id_, atoms, prototype.group, "aflow-perturbed")


def _overlapping(atoms: Atoms) -> bool:
    """Whether a pair of atoms, periodic images included, is closer than `MIN_DISTANCE`."""
    radii = covalent_radii[atoms.numbers]
    first, second, distances = neighbour_pairs(atoms, 2 * MIN_DISTANCE * radii.max())
    return bool((distances < MIN_DISTANCE * (radii[first] + radii[second])).any())


def _elements() -> Iterator[System]:
    from ase.collections import dcdft

    for name in dcdft.names:
        atoms = dcdft[name]
        if _is_supported(atoms):
            atoms.pbc = True
            yield System(f"dcdft/{name}", _bare(atoms), _parent("", atoms), "dcdft")


def _molecules(collection: str) -> Iterator[System]:
    from ase import collections

    molecules = getattr(collections, collection)
    for name in molecules.names:
        atoms = molecules[name]
        if len(atoms) > 1 and _is_supported(atoms):
            atoms.center(vacuum=VACUUM)
            atoms.pbc = True
            yield System(f"{collection}/{name}", _bare(atoms), f"{collection}/{name}", collection)


def _slabs() -> Iterator[System]:
    from ase import build
    from ase.data import chemical_symbols, reference_states

    surfaces = {
        "fcc": ("fcc111", "fcc100"),
        "bcc": ("bcc110",),
        "hcp": ("hcp0001",),
        "diamond": ("diamond111",),
    }
    for z in sorted(ELEMENTS):
        reference = reference_states[z] or {}
        for surface in surfaces.get(reference.get("symmetry", ""), ()):
            symbol = chemical_symbols[z]
            id_ = f"slab/{surface}/{symbol}"
            atoms = getattr(build, surface)(symbol, size=(2, 2, 3), vacuum=VACUUM)
            atoms.positions += _rng(id_).normal(scale=SLAB_RATTLE, size=atoms.positions.shape)
            atoms.pbc = True
            yield System(id_, _bare(atoms), _parent(id_, atoms), "slab")


def _prototype_entries() -> list[Metadata]:
    spec = find_spec("pymatgen")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "analysis", "prototypes", "aflow_prototypes.json.gz")
        if path.is_file():
            return json.loads(gzip.decompress(path.read_bytes()))
    raise MissingPackageError(
        "the built-in structures need the crystal prototypes that come with pymatgen, which is not installed; "
        'run: pip install "latentcmp[models]", or give structures of your own'
    )


def _from_snl(snl: Metadata) -> Atoms:
    symbols = [site["species"][0]["element"] for site in snl["sites"]]
    positions = [site["xyz"] for site in snl["sites"]]
    return Atoms(symbols, positions=positions, cell=snl["lattice"]["matrix"], pbc=True)


def _bare(atoms: Atoms) -> Atoms:
    """The geometry alone, without magnetic moments, tags and constraints."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _parent(id_: str, atoms: Atoms) -> str:
    """The group: one for all structures of a pure element, whose prototype, crystal and slabs are alike."""
    species = set(atoms.get_chemical_symbols())
    return f"element/{species.pop()}" if len(species) == 1 else id_


def _is_supported(atoms: Atoms) -> bool:
    return ELEMENTS.issuperset(atoms.numbers.tolist())


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little"))
