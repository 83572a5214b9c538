"""The table of output files: one function and one row add a file to the results of a comparison."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.registry import MEASURES
from latentcmp.report.content import Report, Table

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

    level = report.levels[""]
    write_figure(heatmap(level.tables, level.n_train, level.n_test, level.rows), path)


def write_cumulants(report: Report, path: Path) -> None:
    """Errors between cumulant orders as a figure."""
    from latentcmp.report.figures import cumulants

    write_figure(cumulants(report.orders), path)


def write_json(report: Report, path: Path) -> None:
    """Every number as JSON."""
    path.write_text(json.dumps(report.results, indent=2) + "\n", encoding="utf-8")


OUTPUTS = (
    Output("heatmap.png", write_heatmap),
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
    return {**tables, **{output.name: output.write for output in OUTPUTS if output.applies(report)}}


def all_names() -> set[str]:
    """Names of all files that some report has."""
    tables = {f"{measure}{suffix}.csv" for measure in MEASURES for suffix in SUFFIXES}
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
