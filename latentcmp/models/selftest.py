"""Self-test of a model: does the installed package give the recorded energies, and do the hooks work?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from latentcmp._runtime.settings import one_torch_thread
from latentcmp.errors import LatentcmpError
from latentcmp.hooks.tap import tap
from latentcmp.models.card import REFERENCE_CRYSTALS, Adapter
from latentcmp.models.registry import ModelSpec, load

ENERGY_TOLERANCE = 2e-4  # eV/atom: the references have four decimals, the models single precision
FEATURE_TOLERANCE = 1e-5  # relative


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        passed: whether the check passed.
        detail: the measured value, or the error.
    """

    name: str
    passed: bool
    detail: str


def self_test(spec: ModelSpec, device: str = "cpu", trust: bool = False) -> list[Check]:
    """Check a model: reference energies, hooks, batches against single structures, and the order of the atoms.

    Args:
        spec: the model.
        device: where it runs.
        trust: use checkpoints whose loading can run code from the file.

    Returns:
        The results; a model that cannot be loaded or run has one that failed.
    """
    try:
        adapter = load(spec, device, trust)
        with torch.no_grad(), one_torch_thread():
            return [check for part in _PARTS for check in part(adapter)]
    except LatentcmpError as error:
        return [Check("load and run", False, str(error))]


def _energies(adapter: Adapter) -> Iterator[Check]:
    crystals = [bulk(name, kind, a=a) for name, (kind, a) in REFERENCE_CRYSTALS.items()]
    energies = _forward(adapter, crystals).cpu().numpy()
    if not adapter.card.energies:
        listed = ", ".join(f"{name} {value:.4f}" for name, value in zip(REFERENCE_CRYSTALS, energies, strict=True))
        yield Check("reference energies", bool(np.isfinite(energies).all()), f"no reference recorded; {listed} eV/atom")
        return
    worst = float(np.abs(energies - adapter.card.energies).max())
    yield Check("reference energies", worst < ENERGY_TOLERANCE, f"largest deviation {worst:.1e} eV/atom")


def _hooks(adapter: Adapter) -> Iterator[Check]:
    structures = _structures()
    untapped = _forward(adapter, structures)
    try:
        with tap(adapter.module, adapter.card.points) as taps:
            tapped = _forward(adapter, structures)
            taps.check(forwards=1)
    except LatentcmpError as error:
        yield Check("hooks fire as declared", False, str(error))
        return
    yield Check("hooks fire as declared", True, f"{len(adapter.card.points)} points, once per forward")
    n_atoms = sum(map(len, structures))
    wrong = [p.name for p in adapter.card.points if tuple(taps[p.name].shape) != (n_atoms, p.width)]
    yield Check("shapes", not wrong, f"wrong at {', '.join(wrong)}" if wrong else "as declared at every point")
    yield Check("hooks change nothing", torch.equal(untapped, tapped), "energies with and without hooks, bitwise")


def _batching(adapter: Adapter) -> Iterator[Check]:
    structures = _structures()
    together = _last(adapter, structures)
    alone = torch.cat([_last(adapter, [atoms]) for atoms in structures])
    error = _relative(together, alone)
    yield Check("batched as single", error < FEATURE_TOLERANCE, f"features differ by {error:.1e}")


def _order(adapter: Adapter) -> Iterator[Check]:
    """Reversed atoms must have reversed rows; the structure has no symmetry that would hide an error."""
    atoms = _structures()[0]
    rows, reversed_rows = _last(adapter, [atoms]), _last(adapter, [atoms[::-1]])
    error, unreversed = _relative(reversed_rows.flip(0), rows), _relative(reversed_rows, rows)
    yield Check("atom order", error < FEATURE_TOLERANCE < unreversed, f"rows in atom order to {error:.1e}")


_PARTS = (_energies, _hooks, _batching, _order)


def _structures() -> list[Atoms]:
    """Structures of different sizes, disordered so that no two atoms have the same features."""
    structures = [
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("Si", a=5.43),
        bulk("Cu", a=3.61).repeat((2, 1, 1)),
    ]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.1, seed=seed)
    return structures


def _forward(adapter: Adapter, structures: Sequence[Atoms]) -> Tensor:
    return adapter.energies([adapter.graph(atoms) for atoms in structures])


def _last(adapter: Adapter, structures: Sequence[Atoms]) -> Tensor:
    with tap(adapter.module, adapter.point("last")) as taps:
        _forward(adapter, structures)
    return taps["last"]


def _relative(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).norm() / expected.norm())
