"""Draw what `latentcmp bench pooling` measured: the fraction of the memory floor over columns and over mean length.

    python -m benchmarks.plot benchmarks/results/pooling-*.json --out pooling.png

Each measurement of a file is one curve; files differ in line style and are named by their threads and malloc.
The floor reads x, and for the backward copies it too: it leaves out the results, which weigh where segments are short.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")
AXES = {"columns": "columns D of ragged segments", "mean_rows": "mean rows of a segment, D = {}"}


def main(arguments: list[str] | None = None) -> Path:
    """Write the picture and return its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--names", nargs="+", help="only these measurements")
    parser.add_argument("--columns", type=int, default=256, help="the D at which length varies")
    parser.add_argument("--out", type=Path, default=Path("pooling.png"))
    options = parser.parse_args(arguments)
    results = [json.loads(path.read_text()) for path in options.results]
    figure(results, options.names, options.columns).savefig(options.out, dpi=150)
    print(options.out)
    return options.out


def figure(results: list[dict], names: list[str] | None = None, columns: int = 256) -> Figure:
    """A row of axes for the forward and one for forward + backward, as far as the results hold them."""
    from matplotlib.figure import Figure

    measured = [row for result in results for row in result["rows"]]
    passes = list(dict.fromkeys(row["what"] for row in measured))
    known = dict.fromkeys(row["name"] for row in measured if not row["name"].startswith("floor"))
    colours = {name: f"C{i % 10}" for i, name in enumerate(name for name in known if not names or name in names)}
    made = Figure(figsize=(10.5, 0.8 + 3.4 * len(passes)), layout="compressed")
    grid = made.subplots(len(passes), 2, squeeze=False, sharey=True)
    for what, line in zip(passes, grid, strict=True):
        for axis, (over, label) in zip(line, AXES.items(), strict=True):
            for result, style in zip(results, STYLES * len(results), strict=False):
                rows = [row for row in result["rows"] if row["what"] == what and _belongs(row, over, columns)]
                _draw(axis, rows, over, colours, style)
            _furnish(axis, over, label.format(columns))
        line[0].set_ylabel(f"{what}\nfraction of the memory floor")
    made.legend(*_legend(results, colours), loc="outside right center", fontsize=8)
    return made


def _belongs(row: dict, over: str, columns: int) -> bool:
    """One curve varies one thing: the width of ragged segments, or the length at one width."""
    kind = row["problem"].split()[0]
    return kind == "ragged" if over == "columns" else kind != "batch" and row["columns"] == columns


def _draw(axis: Axes, rows: list[dict], over: str, colours: dict[str, str], style: str) -> None:
    for name, colour in colours.items():
        points = sorted((row[over], 1 / row["over_floor"]) for row in rows if row["name"] == name)
        if points:
            axis.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3.5, linewidth=1.3)


def _furnish(axis: Axes, over: str, label: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("log", base=2 if over == "columns" else 10)
    axis.set_yscale("log")
    if over == "columns":
        axis.xaxis.set_major_formatter("{x:.0f}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    for direction in (axis.xaxis, axis.yaxis):  # minor labels overlap over several decades
        direction.set_minor_formatter(NullFormatter())
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel(label)
    axis.grid(alpha=0.3)


def _legend(results: list[dict], colours: dict[str, str]) -> tuple[list, list[str]]:
    from matplotlib.lines import Line2D

    entries = [(Line2D([], [], color=colour, marker="o", markersize=3.5), name) for name, colour in colours.items()]
    styles = zip(_settings(results), STYLES * len(results), strict=False)
    entries += [(Line2D([], [], color="black", linestyle=style), name) for name, style in styles]
    handles, labels = zip(*entries, strict=True)
    return list(handles), list(labels)


def _settings(results: list[dict]) -> Iterator[str]:
    for result in results:
        heap = "retained heap" if "MALLOC_MMAP_THRESHOLD_" in result["malloc"] else "default malloc"
        heap += ", huge pages" * ("THP_MEM_ALLOC_ENABLE" in result["malloc"])
        threads = f"{result['threads']} thread{'s' * (result['threads'] > 1)}"
        yield result["device"] if result["device"].startswith("NVIDIA") else f"{threads}, {heap}"


if __name__ == "__main__":
    main()
