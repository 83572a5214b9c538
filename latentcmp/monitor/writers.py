"""Writers of the records of a drift monitor: CSV files and TensorBoard."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from latentcmp._runtime.files import atomic_write
from latentcmp.errors import MissingPackageError

Record: TypeAlias = dict[str, Any]
"""Values by name: of a probe, or of a layer in it."""
RESOLVED = ("elements", "structures")


def scalars(record: Record) -> dict[str, float]:
    """Return the numbers of one record by name: LAYER/MEASURE, and LAYER/MEASURE/LABEL for elements or structures."""
    return {
        "/".join(filter(None, (layer, measure, label))): value
        for layer, label, values in _rows(record)
        for measure, value in values.items()
        if measure != "reason"
    }


class CsvWriter:
    """A CSV file of all records: a line for each step, layer and label (element, structure; empty for the layer)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def write(self, records: Sequence[Record]) -> None:
        """Write all records atomically; InputError where the file cannot be written."""
        lines = [
            {"step": record["step"], "layer": layer, "label": label, **values}
            for record in records
            for layer, label, values in _rows(record)
        ]
        columns = ["step", "layer", "label"]
        columns += [name for name in dict.fromkeys(name for line in lines for name in line) if name not in columns]
        write_csv(self.path, columns, lines)


class TensorBoardWriter:
    """Scalars for TensorBoard.

    Args:
        target: a directory, or an open `SummaryWriter`.
        prefix: first part of the names of the scalars.

    Raises:
        MissingPackageError: a directory is given and tensorboard is not installed.
    """

    def __init__(self, target: Any, prefix: str = "drift") -> None:
        self._writer = target if hasattr(target, "add_scalar") else _summary_writer(target)
        self._prefix, self._written = prefix, 0

    def write(self, records: Sequence[Record]) -> None:
        """Write the records that this writer has not yet written."""
        for record in records[self._written :]:
            for name, value in scalars(record).items():
                self._writer.add_scalar(f"{self._prefix}/{name}", value, record["step"])
        self._written = len(records)
        self._writer.flush()


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[Record]) -> None:
    """Write a CSV file atomically; columns that a line has no value for stay empty. Raises InputError."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def _rows(record: Record) -> Iterator[tuple[str, str, Record]]:
    """Layer, label and numbers: of the whole layer (label ""), then of each element and structure."""
    for layer, found in record["layers"].items():
        yield layer, "", {name: value for name, value in found.items() if name not in RESOLVED}
        for kind in RESOLVED:
            for label, values in found.get(kind, {}).items():
                yield layer, label, values


def _summary_writer(directory: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError("tensorboard is missing: pip install tensorboard") from error
    return SummaryWriter(str(directory))
