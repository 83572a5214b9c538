"""Results on disk, written atomically: earlier results stay whole until the new ones are complete."""

import os
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from latentcmp._runtime.files import atomic_files, atomic_write
from latentcmp.errors import InputError
from latentcmp.report.content import Report
from latentcmp.report.outputs import all_names, outputs_of, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_writable(directory: str | Path) -> None:
    """Raise InputError unless files can be written to `directory`, which need not exist yet."""
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


def save(report: Report, directory: str | Path) -> list[Path]:
    """Write the output files of a report (`latentcmp.report.outputs`), and remove those of an earlier comparison.

    Args:
        report: tables, figures and numbers.
        directory: created if it does not exist.

    Returns:
        The paths of the files.

    Raises:
        InputError: the directory cannot be written.
    """
    directory = Path(directory)
    check_writable(directory)
    outputs = outputs_of(report)
    with atomic_files(directory, outputs) as temporary:
        for name, write in outputs.items():
            write(report, temporary / name)
    for name in all_names() - set(outputs):
        (directory / name).unlink(missing_ok=True)  # of an earlier comparison: it would not fit results.json
    return [directory / name for name in outputs]


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure atomically. Raises InputError where it cannot be written."""
    with atomic_write(path) as temporary:
        write_figure(figure, temporary)
