"""What the drift monitor costs a training of CHGNet: process CPU time of a probe, as a share of the steps between two.

The cost of a probe is one energy-only forward of its atoms and the statistics; in between there is none. `PROBES` are
sizes in atoms; a training step is a forward and backward of energies and forces of `BATCH` structures, and Adam.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from latentcmp import DriftMonitor
from latentcmp.models import Adapter, load
from latentcmp.monitor.guard import undisturbed

PROBES = (128, 256, 512, 1024)
BATCH = 16
EVERY = 100
CRYSTALS = (
    ("NaCl", "rocksalt", 5.64),
    ("Si", "diamond", 5.43),
    ("MgO", "rocksalt", 4.21),
    ("GaAs", "zincblende", 5.65),
)


def run(options: Any) -> list[dict[str, Any]]:
    """One row a probe size: CPU milliseconds of a training step, of a bare forward, of a probe, and shares in %.

    `options.repeat` rounds (default 5), in each of which everything is timed once; medians over rounds.
    """
    repeat, threads = getattr(options, "repeat", 5), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        adapter = load("chgnet-0.3.0")
        step = training_step(adapter)
        return [row_of(adapter, step, n_atoms, repeat) for n_atoms in PROBES]
    finally:
        torch.set_num_threads(threads)


def row_of(adapter: Adapter, step: Callable[[], None], n_atoms: int, repeat: int) -> dict[str, Any]:
    """Times of a monitor of the last layer whose probe has `n_atoms` atoms."""
    monitor = DriftMonitor(adapter, "last", probe=structures(n_atoms // 8), every=1)
    steps = iter(range(10**9))

    def forward() -> None:
        with undisturbed(adapter.module):
            for run_batch in monitor._forwards:
                run_batch()

    calls = {"train": step, "forward": forward, "probe": lambda: monitor.step(next(steps)), "compute": monitor.compute}
    found = medians(calls, repeat)
    whole = found["probe"] + found["compute"]
    return {
        "what": "drift monitor, CHGNet, last layer",
        "probe_atoms": n_atoms,
        "batch_atoms": 8 * BATCH,
        **{f"{name}_ms": 1e3 * seconds for name, seconds in found.items()},
        "own_ms": 1e3 * (whole - found["forward"]),
        "share_percent": 100 * whole / (EVERY * found["train"]),
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


def medians(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median CPU seconds of each call, one after another in every round, after one warm round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(found[1:])) for name, found in times.items()}
