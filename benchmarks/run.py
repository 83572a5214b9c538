"""Measure an operator beside its peers, interleaved in one run; a table and a JSON file.

    latentcmp bench pooling --threads 2 --shapes 64 256 1024 --kinds ragged --backward
    latentcmp bench reconstruction --threads 1 --shapes 10k-128 50k-256
    latentcmp bench streaming --large
    latentcmp bench training       # what a loss adds to a training step
    latentcmp bench drift          # what a drift monitor adds to a training
    latentcmp bench finetuning     # does fine-tuning keep the imprint of pretraining?
    latentcmp bench findings --features FOLDER    # do the findings of arXiv 2512.05717 hold here?

With one thread the clock is the process's CPU time, which other load does not disturb; else it is wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import torch

RESULTS = Path("benchmarks/results")
OPERATORS = ("pooling", "reconstruction", "streaming")  # modules with add_arguments(parser) and run(options)
STUDIES = ("training", "drift", "finetuning", "findings")  # the same, of real models on one thread of a CPU
MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE")
UNSEEN = ("problem", "columns", "mean_rows")  # in the name of the problem, or for the plot alone
HEADINGS = {"over_floor": "/ floor", "over_ours": "/ first"}
FORMATS = {"ms": ".3f", "over_floor": ".2f", "over_ours": ".2f", "error": ".1e"}


def is_wanted(name: str, options: argparse.Namespace) -> bool:
    """Whether --only and --ours leave a measurement in."""
    return any(part in name for part in options.only) and (name.startswith("latentcmp") or not options.ours)


def is_installed(package: str) -> bool:
    """Whether a package that a peer needs is there; "" always is."""
    return not package or find_spec(package) is not None


def clock(device: str) -> Callable[[], float]:
    """CPU time of the process with one thread on a CPU, else wall time, in seconds; a GPU's once its work is done."""
    if device == "cuda":
        return _finished
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def seconds(call: Callable[[], object], device: str) -> float:
    """Of one call, with all that it left to do on the device."""
    now = clock(device)
    start = now()
    call()
    return now() - start


def measure(candidates: dict[str, Callable[[], object]], repeat: int, device: str) -> dict[str, float]:
    """Median seconds of each candidate, one after another in every round, after one warm call of each."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(repeat + 1):
        for name, call in candidates.items():
            found = seconds(call, device)
            if round_:
                times[name].append(found)
    return {name: sorted(found)[len(found) // 2] for name, found in times.items()}


def main(arguments: list[str] | None = None) -> Path:
    """Run, print the table and write <operator>-<device>-<threads>t-<time>.json in the folder of --out.

    Returns its path. A study that writes files of its own returns theirs.
    """
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = import_module(f".{options.operator}", __package__).run(options)
    return found if isinstance(found, Path) else write(found, options)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="latentcmp bench", description=__doc__, formatter_class=raw)
    operators = parser.add_subparsers(dest="operator", required=True)
    for name in (*OPERATORS, *STUDIES):
        module = import_module(f".{name}", __package__)
        own = operators.add_parser(name, description=module.__doc__, formatter_class=raw)
        own.add_argument("--out", type=Path, default=RESULTS)
        if name in OPERATORS:
            _add_shared_arguments(own)
        else:
            own.set_defaults(device="cpu", threads=1)
        module.add_arguments(own)
    return parser


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=float, default=1.0, help="rows, as a fraction of the full shapes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--slow", action="store_true", help="the slowest peers too")
    parser.add_argument("--ours", action="store_true", help="no peers")
    parser.add_argument("--only", nargs="+", default=[""], help="names that contain one of these")


def print_table(rows: list[dict]) -> None:
    """Rows of each problem under its name; columns are the other keys of its rows, but for ``UNSEEN``."""
    for problem, found in groupby(rows, key=lambda row: row["problem"]):
        members = list(found)
        names = list(dict.fromkeys(key for row in members for key in row if key not in UNSEEN))
        cells = [[HEADINGS.get(name, name) for name in names]]
        cells += [[_cell(name, row.get(name)) for name in names] for row in members]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        print(f"\n{problem}")
        for line in cells:
            aligned = zip(line, widths, names, strict=True)
            print("  ".join(f"{cell:{'<' if key in ('what', 'name') else '>'}{width}}" for cell, width, key in aligned))
    print(end="", flush=True)


def write(rows: list[dict], options: argparse.Namespace) -> Path:
    device = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    now = datetime.now(UTC)
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


def processor() -> str:
    """What the system calls its processor."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    return f"{value:{FORMATS.get(name, '.4g')}}" if isinstance(value, float) else str(value)


def _finished() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
