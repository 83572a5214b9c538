"""Results on disk, written atomically: earlier results stay whole until the new ones are complete."""

import csv
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from latentcmp._runtime.files import atomic_files, atomic_write
from latentcmp.errors import InputError
from latentcmp.measures.registry import MEASURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latentcmp.comparison.result import Comparison
    from latentcmp.measures.error_matrix import ErrorMatrix

KNOWN = {f"{measure}{level}.csv" for measure in MEASURES for level in ("", "_structures")} | {"cumulants.png"}


def check_writable(directory: str | Path) -> None:
    """Raise InputError unless files can be written to `directory`, which need not exist yet; leaves no trace."""
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"output directory {directory} is a file; give another with -o")
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    try:
        os.rmdir(mkdtemp(prefix=".latentcmp-", dir=existing))
    except OSError as error:
        raise InputError(
            f"output directory {directory} cannot be written: {error.strerror}; give another with -o"
        ) from error


def save(comparison: "Comparison", directory: str | Path) -> list[Path]:
    """Write results.json, CSV tables and figures into `directory`; returns their paths."""
    directory = Path(directory)
    check_writable(directory)
    files = _files(comparison)
    with atomic_files(directory, files) as temporary:
        for name, write in files.items():
            write(temporary / name)
    for name in KNOWN - set(files):
        (directory / name).unlink(missing_ok=True)  # of an earlier comparison: it would not fit results.json
    return [directory / name for name in files]


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure atomically. Raises InputError where it cannot be written."""
    with atomic_write(path) as temporary:
        _write_figure(figure, temporary)


def _files(comparison: "Comparison") -> dict[str, Callable[[Path], None]]:
    """File names in the order they are put in place, results.json last, each with its writer."""
    from latentcmp.report.figures import cumulants, heatmap

    files: dict[str, Callable[[Path], None]] = {}
    for suffix, level in (("", comparison.atoms), ("_structures", comparison.structures)):
        for matrix in level or ():
            files[f"{matrix.measure}{suffix}.csv"] = partial(_write_csv, matrix)
    files["heatmap.png"] = lambda path: _write_figure(heatmap(comparison), path)
    if comparison.orders:
        files["cumulants.png"] = lambda path: _write_figure(cumulants(comparison), path)
    files["results.json"] = partial(_write_json, comparison)
    return files


def _write_csv(matrix: "ErrorMatrix", path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source\\target", *matrix.names])
        writer.writerows([name, *row] for name, row in zip(matrix.names, matrix.tolist(), strict=True))


def _write_figure(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=160)


def _write_json(comparison: "Comparison", path: Path) -> None:
    path.write_text(json.dumps(comparison.to_dict(), indent=2) + "\n", encoding="utf-8")
