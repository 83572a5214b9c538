"""Write features as plain .npy files, the layout that `latentcmp.features.npy` reads."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.files import atomic_directory
from latentcmp.systems.system import SystemRecord, offsets

COLUMNS = ("id", "group", "subset", "digest")


def write_npy(
    path: str | Path,
    systems: Sequence[SystemRecord],
    numbers: Tensor,
    blocks: Iterable[Tensor],
    width: int,
    dtype: torch.dtype,
) -> None:
    """Write features as .npy files to a new directory, a block at a time.

    Args:
        path: the directory, which must not exist.
        systems: the structures in the order of their rows.
        numbers: atomic numbers [n_atoms].
        blocks: the rows [n_atoms, width] in consecutive blocks, on the CPU.
        width: columns of the features.
        dtype: dtype of the features; bfloat16 is written as float32, for NumPy has no bfloat16.

    Raises:
        InputError: the directory exists or cannot be written.
    """
    ptr = offsets(systems)
    system = np.repeat(np.arange(len(systems)), np.diff(ptr))
    with atomic_directory(path) as directory:
        _write_values(directory / "values.npy", blocks, (int(ptr[-1]), width), dtype)
        np.save(directory / "structures.npy", system)
        np.save(directory / "atoms.npy", np.arange(ptr[-1]) - ptr[system])
        np.save(directory / "numbers.npy", numbers.numpy())
        with (directory / "systems.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([getattr(record, column) for column in COLUMNS] for record in systems)


def _write_values(path: Path, blocks: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype) -> None:
    written = torch.float32 if dtype == torch.bfloat16 else dtype
    kind = torch.empty(0, dtype=written).numpy().dtype
    values = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    start = 0
    for rows in blocks:
        values[start : start + len(rows)] = rows.to(written).numpy()
        start += len(rows)
    values.flush()
