"""The table of output files: one function and one row add a file to the results of a comparison."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from latentcmp.measures.elements import ElementError
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.registry import MEASURES
from latentcmp.report.content import Report, Table, Tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Writer: TypeAlias = Callable[[Report, Path], None]
SUFFIXES = ("", "_structures")


@dataclass(frozen=True)
class Output:
    """A file of the results.

    Args:
        name: the name of the file.
        write: writes a report to a path.
        applies: whether a report has this file.
    """

    name: str
    write: Writer
    applies: Callable[[Report], bool] = lambda report: True


def write_heatmap(report: Report, path: Path) -> None:
    """Measures between atoms as a figure."""
    from latentcmp.report.figures import heatmap

    write_figure(heatmap(report.levels[""]), path)


def write_structure_heatmap(report: Report, path: Path) -> None:
    """Measures between structures as a figure."""
    from latentcmp.report.figures import heatmap

    write_figure(heatmap(report.levels["_structures"]), path)


def write_learning_curve(report: Report, path: Path) -> None:
    """Errors between atoms against the number of training groups as a figure."""
    from latentcmp.report.figures import learning_curve

    write_figure(learning_curve(report.levels[""].learning_curve), path)


def write_cumulants(report: Report, path: Path) -> None:
    """Errors between cumulant orders as a figure."""
    from latentcmp.report.figures import cumulants

    write_figure(cumulants(report.orders), path)


def write_json(report: Report, path: Path) -> None:
    """Every number as JSON."""
    path.write_text(json.dumps(report.results, indent=2) + "\n", encoding="utf-8")


OUTPUTS = (
    Output("heatmap.png", write_heatmap),
    Output("heatmap_structures.png", write_structure_heatmap, lambda report: "_structures" in report.levels),
    Output("learning_curve.png", write_learning_curve, lambda report: bool(report.levels[""].learning_curve)),
    Output("cumulants.png", write_cumulants, lambda report: bool(report.orders)),
    Output("results.json", write_json),
)
"""In the order they are put in place: results.json last, as it says what the others hold."""


def outputs_of(report: Report) -> dict[str, Writer]:
    """File names of a report with their writers: a CSV table for each measure and level, then `OUTPUTS`."""
    tables = {
        f"{table.measure}{suffix}.csv": partial(_write_table, table)
        for suffix, level in report.levels.items()
        for table in level.tables
    }
    for suffix, level in report.levels.items():
        if level.baselines:
            tables[f"baselines{suffix}.csv"] = partial(_write_baselines, level)
        if level.elements:
            tables[f"elements{suffix}.csv"] = partial(_write_elements, level)
    return {**tables, **{output.name: output.write for output in OUTPUTS if output.applies(report)}}


def all_names() -> set[str]:
    """Names of all files that some report has."""
    tables = {f"{table}{suffix}.csv" for table in (*MEASURES, "baselines", "elements") for suffix in SUFFIXES}
    return tables | {output.name for output in OUTPUTS}


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=160)


def _write_table(table: Table, report: Report, path: Path) -> None:
    """A matrix with sources in rows, or one value a matrix."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if isinstance(table, ErrorMatrix):
            writer.writerow(["source\\target", *table.names])
            writer.writerows([name, *row] for name, row in zip(table.names, table.tolist(), strict=True))
        else:
            writer.writerow(["matrix", table.measure])
            writer.writerows(zip(table.names, table.tolist(), strict=True))


def _write_baselines(level: Tables, report: Report, path: Path) -> None:
    """Errors of baselines, one a line: measure, baseline, target, value, median."""
    lines = [
        [measure, name, target, value, median]
        for measure, rows in level.baselines.items()
        for name, values in rows.values.items()
        for target, value, median in zip(rows.targets, values, rows.medians.get(name, [""] * len(values)), strict=True)
    ]
    _write_lines(path, ["measure", "baseline", "target", "value", "median"], lines)


def _write_elements(level: Tables, report: Report, path: Path) -> None:
    """Errors by element, one pair and element a line."""
    names = {table.measure: table.names for table in level.tables}
    lines = [
        [measure, source, target, *element]
        for measure, rows in level.elements.items()
        for source, row in zip(names[measure], rows, strict=True)
        for target, cell in zip(names[measure], row, strict=True)
        for element in cell
    ]
    _write_lines(path, ["measure", "source", "target", *ElementError._fields], lines)


def _write_lines(path: Path, head: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(lines)
