"""What the drift monitor costs a training of CHGNet: process CPU time of a probe, as a share of the steps between two.

The cost of a probe is one energy-only forward of its atoms and the statistics; in between there is none. `PROBES` are
sizes in atoms; a training step is a forward and backward of energies and forces of `BATCH` structures, and Adam.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from latentcmp import DriftMonitor
from latentcmp.models import Adapter, load
from latentcmp.monitor.guard import undisturbed
from latentcmp.monitor.probe import checked_probe, share_of_systems
from latentcmp.monitor.ranks import Ranks

from .run import measure, print_table

PROBES = (128, 256, 512, 1024)
BATCH = 16
EVERY = 100
CRYSTALS = (
    ("NaCl", "rocksalt", 5.64),
    ("Si", "diamond", 5.43),
    ("MgO", "rocksalt", 4.21),
    ("GaAs", "zincblende", 5.65),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=5)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a probe size: CPU milliseconds of a training step, of a bare forward, of a probe, and shares in %."""
    adapter = load("chgnet-0.3.0")
    step = training_step(adapter)
    rows = [row_of(adapter, step, n_atoms, options.repeat) for n_atoms in PROBES]
    print_table(rows)
    return rows


def row_of(adapter: Adapter, step: Callable[[], None], n_atoms: int, repeat: int) -> dict[str, Any]:
    """Times of a monitor of the last layer whose probe has `n_atoms` atoms."""
    probe = structures(n_atoms // 8)
    monitor = DriftMonitor(adapter, "last", probe=probe, every=1)
    share = share_of_systems(adapter, checked_probe(adapter, None, probe), Ranks(None))
    steps = iter(range(10**9))

    def forward() -> None:
        with undisturbed(adapter.module):
            for run_batch in share.forwards:
                run_batch()

    calls = {"train": step, "forward": forward, "probe": lambda: monitor.step(next(steps)), "compute": monitor.compute}
    found = measure(calls, repeat, "cpu")
    whole = found["probe"] + found["compute"]
    return {
        "problem": f"drift monitor of CHGNet's last layer, a probe every {EVERY} steps of {8 * BATCH} atoms",
        "name": f"{n_atoms} atoms",
        **{f"{name} ms": 1e3 * seconds for name, seconds in found.items()},
        "own ms": 1e3 * (whole - found["forward"]),
        "% of the steps": 100 * whole / (EVERY * found["train"]),
    }


def training_step(adapter: Adapter) -> Callable[[], None]:
    """A step on energies and forces of one batch, as CHGNet is trained."""
    batch = [adapter.graph(atoms) for atoms in structures(BATCH, seed=1)]
    model = adapter.module.train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> None:
        found = model(batch, task="ef")
        loss = found["e"].square().mean() + torch.cat(found["f"]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def structures(n: int, seed: int = 0) -> list[Atoms]:
    """Disordered cubic crystals of eight atoms."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(n):
        symbols, kind, a = CRYSTALS[index % len(CRYSTALS)]
        atoms = bulk(symbols, kind, a=a * rng.uniform(0.95, 1.05), cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        found.append(atoms)
    return found
