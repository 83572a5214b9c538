"""The table of a drift study: one line of errors for each checkpoint, in a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from latentcmp.errors import InputError
from latentcmp.measures.measure import ErrorName
from latentcmp.monitor.observation import DIRECTIONS
from latentcmp.monitor.writers import write_csv

ERRORS: tuple[ErrorName, ...] = ("gfre", "lfre")
COLUMNS = (
    "checkpoint",
    "step",
    *(f"{m}_{d}{end}" for m in ERRORS for d in DIRECTIONS for end in ("", "_low", "_high")),
    "linear_cka",
    "effective_rank",
    "sha256",
    "settings",
)
Line: TypeAlias = dict[str, Any]
"""Values of one checkpoint by the names in `COLUMNS`: text, an integer step, or floats."""


def write_table(path: Path, lines: Sequence[Line]) -> None:
    """Write the table atomically; InputError where it cannot be written."""
    write_csv(path, COLUMNS, lines)


def read_table(path: Path) -> list[Line]:
    """Return the lines of an earlier run, or none where there is no file; InputError for a file of another kind."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    text = ("checkpoint", "sha256", "settings")
    try:
        return [{name: line[name] if name in text else float(line[name]) for name in COLUMNS} for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table of `latentcmp drift`; move it, or give another -o") from error
