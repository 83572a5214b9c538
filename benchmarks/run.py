"""Measure an operator beside its peers and the memory floor, interleaved in one run; a table and a JSON file.

    latentcmp bench pooling --threads 2 --shapes 64 256 1024 --kinds ragged --backward
    latentcmp bench training       # what a loss adds to a training step
    latentcmp bench finetuning     # does fine-tuning keep the imprint of pretraining?

With one thread the clock is the process's CPU time, which other load does not disturb; else it is wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference

from .registry import KINDS, SHAPES, Peer, Problem, make_problem, pooling_peers

RESULTS = Path("benchmarks/results")
STUDIES = {"finetuning": ".finetuning.study", "training": ".training"}  # with options of their own
MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE")


def measure(candidates: dict[str, Callable[[], object]], repeat: int, device: str) -> dict[str, float]:
    """Median seconds of each candidate, one after another in every round, after one warm call of each."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(repeat + 1):
        for name, call in candidates.items():
            _synchronize(device)
            start = clock()
            call()
            _synchronize(device)
            if round_:
                times[name].append(clock() - start)
    return {name: sorted(found)[len(found) // 2] for name, found in times.items()}


def floors(problem: Problem) -> dict[str, Callable[[], object]]:
    """The fastest reads and the copy of the same bytes that torch offers at this thread count."""
    flat = problem.x.flatten()
    other = torch.empty_like(flat)
    reads = {"floor: sum": flat.sum, "floor: max": flat.amax, "floor: dot": lambda: torch.dot(flat, flat)}
    return {**reads, "floor: copy": lambda: other.copy_(flat)}


def check(peer: Peer, problem: Problem) -> float:
    """Largest error against float64 on the first systems, over the deviation to the power of the order."""
    stop = int(problem.ptr[min(50, problem.n_systems)])
    ptr = problem.ptr[: min(50, problem.n_systems) + 1]
    head = Problem("", problem.x[:stop].contiguous(), ptr.contiguous(), problem.index[:stop].contiguous())
    got = peer.run(head).double().cpu()
    want = segment_cumulants_reference(head.x.double().cpu(), head.ptr.cpu(), peer.orders)
    if peer.name == "PyG mean + var" or peer.orders == 1:
        want = want[:, : got.size(1)]
    return float(((got - want).abs().amax((0, 2)) / want.abs().amax((0, 2)).clamp(min=1.0)).max())


def with_backward(peer: Peer, problem: Problem) -> Callable[[], object]:
    x = problem.x.detach().requires_grad_()
    leaf = Problem(problem.name, x, problem.ptr, problem.index)
    cotangent = torch.randn_like(peer.run(problem))
    return lambda: torch.autograd.grad(peer.run(leaf), x, cotangent)


def run_problem(problem: Problem, options: argparse.Namespace) -> list[dict]:
    """Rows of the table for one problem, forward and where asked forward + backward."""
    peers, errors = [], {}
    for peer in pooling_peers(options.device):
        if peer.missing() or (peer.slow and not options.slow) or options.only not in peer.name:
            continue
        if peer.name.startswith("latentcmp") or not options.ours:
            errors[peer.name] = check(peer, problem)
            peers.append(peer)
    rows = []
    for backward in (False, True) if options.backward else (False,):
        chosen = [p for p in peers if p.differentiable or not backward]
        calls = floors(problem)
        calls |= {p.name: with_backward(p, problem) if backward else _forward(p, problem) for p in chosen}
        found = measure(calls, options.repeat, options.device)
        read = min(found[name] for name in ("floor: sum", "floor: max", "floor: dot"))
        floor = read + found["floor: copy"] if backward else read
        first = found[chosen[0].name]
        for name, seconds in found.items():
            row = {
                "problem": problem.name,
                "what": "forward + backward" if backward else "forward",
                "name": name,
            }
            row |= {"ms": seconds * 1e3, "over_floor": seconds / floor, "over_ours": seconds / first}
            rows.append(row | {"error": errors.get(name)})
    return rows


def main(arguments: list[str] | None = None) -> Any:
    """Run, print the table and write benchmarks/results/<operator>-<host's processor>-<time>.json; or run a study."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in STUDIES:
        return import_module(STUDIES[given[0]], __package__).main(given[1:])
    parser = argparse.ArgumentParser(
        prog="latentcmp bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("operator", choices=["pooling"])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["ragged"])
    parser.add_argument("--scale", type=float, default=1.0, help="rows, as a fraction of the full shapes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--slow", action="store_true", help="the numpy and scipy loops too")
    parser.add_argument("--ours", action="store_true", help="no peers, only the floors")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    rows = []
    for shape in options.shapes:
        for kind in options.kinds:
            n_rows, columns = SHAPES[shape]
            problem = make_problem(kind, int(n_rows * options.scale), columns, options.device, options.dtype)
            found = run_problem(problem, options)
            print_table(found)
            rows += found
    return write(rows, options)


def print_table(rows: list[dict]) -> None:
    print(f"\n{rows[0]['problem']}")
    print(f"{'what':20} {'name':28} {'ms':>10} {'/ floor':>8} {'/ first':>8} {'error':>9}")
    for row in rows:
        error = "" if row["error"] is None else f"{row['error']:9.1e}"
        numbers = f"{row['ms']:10.3f} {row['over_floor']:8.2f} {row['over_ours']:8.2f}"
        print(f"{row['what']:20} {row['name']:28} {numbers} {error}", flush=True)


def write(rows: list[dict], options: argparse.Namespace) -> Path:
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    now = datetime.now(timezone.utc)
    settings = {
        "operator": options.operator,
        "device": device,
        "threads": options.threads,
        "torch": torch.__version__,
        "date": now.isoformat(timespec="seconds"),
        "clock": "process CPU time" if options.device == "cpu" and options.threads == 1 else "wall",
        "malloc": {name: os.environ[name] for name in MALLOC if name in os.environ},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.operator}-{options.device}-{options.threads}t-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")
    print(f"\n{path}")
    return path


def _forward(peer: Peer, problem: Problem) -> Callable[[], object]:
    return lambda: peer.run(problem)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
