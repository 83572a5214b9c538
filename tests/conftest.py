"""Structures and features of real models that several test files share; each model runs once a session."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: several processes share the cores

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import latentcmp
from latentcmp.features.data import Features

SLOW_FIXTURES = {"all_models", "run_ranks", "run_narrowed", "emulated"}
"""Real models, several processes, a process for each instruction set, CUDA source compiled for the CPU."""
SLOW_FOLDERS = {"benchmarks", "cli", "gates", "runtime"}
SLOW_FILES = {"test_core_imports", "test_drift", "test_lightning", "test_model_inputs", "test_shards", "test_torchrun"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a slow fixture, and folders and files whose tests start programs."""
    for item in items:
        in_slow_place = item.path.parent.name in SLOW_FOLDERS or item.path.stem in SLOW_FILES
        if in_slow_place or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def all_models() -> None:
    """Skip where a model package is not installed."""
    for package in ("chgnet", "sevenn", "diep"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="session")
def structures() -> list[Atoms]:
    """Disordered crystals and boxed molecules of several elements: about 800 atoms in 100 structures."""
    rng = np.random.default_rng(7)
    crystals = [
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("Si", a=5.43, cubic=True),
        bulk("Cu", a=3.61, cubic=True).repeat((2, 1, 1)),
        bulk("MgO", "rocksalt", a=4.21, cubic=True),
        bulk("GaAs", "zincblende", a=5.65, cubic=True),
        bulk("Fe", a=2.87, cubic=True).repeat((2, 2, 1)),
    ]
    found = []
    for copy in range(16):
        for atoms in crystals:
            atoms = atoms.copy()
            atoms.set_cell(atoms.cell.array * (1 + 0.005 * (copy - 8)), scale_atoms=True)
            atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
            found.append(atoms)
    for name in ("H2O", "CH3CH2OH", "C6H6", "NH3"):
        atoms = molecule(name)
        atoms.center(vacuum=6.0)
        atoms.pbc = True
        found.append(atoms)
    return found


@pytest.fixture(scope="session")
def chgnet_features(structures: list[Atoms], all_models: None) -> Features:
    return latentcmp.extract("chgnet-0.3.0", structures, device="cpu")


@pytest.fixture(scope="session")
def sevennet_features(structures: list[Atoms], all_models: None) -> Features:
    return latentcmp.extract("sevennet-0", structures, device="cpu")


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], Path]:
    """Run SCRIPT RANK WORLD FOLDER for every rank, and give the folder; one that hangs is ended and fails the tests."""

    def run(script: Path, world: int) -> Path:
        folder = tmp_path_factory.mktemp("ranks")
        commands = [[sys.executable, script, str(rank), str(world), folder] for rank in range(world)]
        ranks = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) for command in commands]
        try:
            said = [rank.communicate(timeout=240)[1].decode() for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(said)
        return folder

    return run
