"""Stream atoms through joint statistics and cumulant pooling: rate, peak memory, and what they predict.

Each size runs in a process of its own. The cost model is a straight line through the sizes measured; its prediction
for a cluster rests on bytes, operations and the size of the reduction, and on the assumptions it prints.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcmp import JointStatistics, segment_cumulants
from latentcmp.features.data import Features
from latentcmp.features.extract import extract
from latentcmp.statistics.joint_moments import Method

from .run import clock, print_table

BLOCK = 8192  # atoms that arrive together
ORDER = 4
CLUSTER = {"atoms": 1e9, "GPUs": 64, "bytes/s a GPU": 3.0e12, "flop/s a GPU": 3.0e13, "bytes/s of the network": 5.0e10}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--atoms", nargs="+", type=float, default=[1e5, 1e6])
    parser.add_argument("--large", action="store_true", help="1e7 atoms too")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--method", choices=["gram", "qr"], default="gram")
    parser.add_argument("--structures", type=int, default=100, help="of the built-in set for the real model; 0: none")


def run(options: argparse.Namespace) -> list[dict]:
    """Rows for each size, for the fitted model, and for a real model."""
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1000000")  # or the peak is one of what malloc happened to keep
    sizes = [int(n * options.scale) for n in [*options.atoms, *([1e7] if options.large else [])]]
    rows = []
    for n in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(stream, n, options).result())
    groups = [rows, cost_model(rows, options)]
    if options.structures and find_spec("chgnet"):
        groups.append([real_model(options)])
    for group in groups:
        print_table(group)
    return [row for group in groups for row in group]


def stream(n_atoms: int, options: argparse.Namespace) -> dict:
    """Seconds, rate and peak memory of one size; making the atoms is not counted."""
    torch.set_num_threads(options.threads)
    now = clock(options.device)
    joint, spent = JointStatistics(_widths(options), options.method, options.device), {"update": 0.0, "pooling": 0.0}
    for features, part, ptr in blocks(n_atoms, options):
        start = now()
        joint.update(features, part)
        middle = now()
        for values in features.values():
            segment_cumulants(values, ptr, ORDER)
        spent = {"update": spent["update"] + middle - start, "pooling": spent["pooling"] + now() - middle}
    start = now()
    joint.errors()
    errors = now() - start
    return {
        "problem": f"streaming, {options.models} x {options.width} columns, {options.method}",
        "name": f"{n_atoms} atoms",
        "atoms": n_atoms,
        "update s": spent["update"],
        "pooling s": spent["pooling"],
        "errors s": errors,
        "atoms/s": n_atoms / sum(spent.values()),
        "peak MB": peak_memory(options.device) / 1e6,
        **costs(options, options.device),
    }


def blocks(n_atoms: int, options: argparse.Namespace) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
    """Features {name: [BLOCK, D]} float32, parts [BLOCK] on the CPU and offsets of structures of 20 to 46 atoms."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    mixes = torch.randn(options.models, 64, options.width, generator=generator) / 8
    for start in range(0, n_atoms, BLOCK):
        n = min(BLOCK, n_atoms - start)
        ends = np.cumsum(rng.integers(20, 47, n // 20 + 1)).clip(max=n)
        ptr = torch.from_numpy(np.r_[0, np.unique(np.r_[ends, n])])
        latent = torch.randn(n, 64, generator=generator)
        part = torch.from_numpy(rng.choice(3, len(ptr) - 1, p=[0.25, 0.25, 0.5])).repeat_interleave(ptr.diff())
        noise = 0.05 * torch.randn(n, options.width, generator=generator)
        features = {name: torch.tanh(latent @ mix) + noise for name, mix in zip(_widths(options), mixes, strict=True)}
        yield {name: x.to(options.device) for name, x in features.items()}, part, ptr.to(options.device)


def costs(options: argparse.Namespace, device: str) -> dict[str, float]:
    """What an atom must cost: bytes read once for each of the two uses, operations, and the bytes to be reduced."""
    columns = options.models * options.width
    halves = 1 if (device, options.method) == ("cpu", "gram") else 2
    products = halves * columns**2  # half a symmetric product; a GPU forms the whole, and qr solves with a triangle
    return {
        "bytes/atom": 2 * 4.0 * columns,
        "flop/atom": products + 3.0 * ORDER * columns,
        "reduction MB": 3 * 8 * (1 + columns) ** 2 / 1e6,
    }


def cost_model(rows: Sequence[dict], options: argparse.Namespace) -> list[dict]:
    """The line through what was measured, and what the same costs predict for a cluster under named assumptions."""
    atoms = np.array([row["atoms"] for row in rows])
    seconds = np.array([row["update s"] + row["pooling s"] for row in rows])
    slope, offset = np.polyfit(atoms, seconds, 1) if len(rows) > 1 else (seconds[0] / atoms[0], 0.0)
    need, need_of_gpu = costs(options, options.device), costs(options, "cuda")
    share = CLUSTER["atoms"] / CLUSTER["GPUs"]
    reading = share * need["bytes/atom"] / CLUSTER["bytes/s a GPU"]
    computing = share * need_of_gpu["flop/atom"] / CLUSTER["flop/s a GPU"]
    reducing = 2 * need["reduction MB"] * 1e6 / CLUSTER["bytes/s of the network"]
    values = {
        "measured: seconds before the first atom": offset,
        "measured: microseconds an atom": slope * 1e6,
        "measured: Gflop/s": need["flop/atom"] / slope / 1e9,
        **{f"assumed: {name}": value for name, value in CLUSTER.items()},
        "predicted: s reading": reading,
        "predicted: s computing": computing,
        "predicted: s reducing, once": reducing,
        "predicted: s in all, reading and computing at once": max(reading, computing) + reducing,
        "predicted: s of one such CPU": offset + slope * CLUSTER["atoms"],
    }
    return [{"problem": "cost model", "name": name, "value": float(value)} for name, value in values.items()]


def real_model(options: argparse.Namespace) -> dict:
    """CHGNet on the first built-in structures: what statistics and pooling add to its own time, one after the other.

    On a GPU also how often they wait for it.
    """
    from latentcmp.models.registry import load, parse
    from latentcmp.systems.builtin import builtin_systems

    on_cpu = options.device == "cpu"
    now = time.process_time if on_cpu else clock(options.device)
    adapter = load(parse("chgnet-0.3.0", "last"), torch.device(options.device))
    systems = [system.atoms for system in builtin_systems()[: options.structures]]
    part = (torch.arange(len(systems)) % 3).repeat_interleave(torch.tensor([len(atoms) for atoms in systems]))
    if not on_cpu:
        gather(extract(adapter, systems, device=options.device), part, options.method)  # which loads kernels
    start = now()
    features = extract(adapter, systems, device=options.device)
    middle = now()
    gather(features, part, options.method)
    added = now() - middle
    found = {
        "problem": f"chgnet-0.3.0 on {len(systems)} structures of the built-in set{', CPU time' if on_cpu else ''}",
        "name": f"{len(features)} atoms",
        "model s": middle - start,
        "statistics and pooling s": added,
        "share %": 100 * added / (middle - start),
    }
    return found if on_cpu else found | {"waits": count_waits(partial(gather, features, part, options.method))}


def gather(features: Features, part: Tensor, method: Method) -> None:
    """Statistics block by block, and cumulants."""
    joint = JointStatistics({"chgnet": features.values.shape[1]}, method, features.values.device)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        joint.update({"chgnet": features.values[rows]}, part[rows])
    segment_cumulants(features.values, features.ptr, ORDER)


def count_waits(call: Callable[[], object]) -> int:
    """How often a call makes the host wait for the GPU, copies to the host included, as torch warns of it."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in raised)


def peak_memory(device: str) -> int:
    """Bytes at most on a GPU, or resident in this process alone, where the system tells; else 0."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _widths(options: argparse.Namespace) -> dict[str, int]:
    return {f"model {m}": options.width for m in range(options.models)}
