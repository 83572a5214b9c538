"""Writes features as plain .npy files, the layout that `latentcmp.features.npy` reads."""

import csv
import os
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import numpy as np
import torch

from latentcmp.errors import InputError

if TYPE_CHECKING:
    from latentcmp.features.stored import StoredFeatures

COLUMNS = ("id", "group", "subset", "digest")
BLOCK_ATOMS = 65_536


def write_npy(features: "StoredFeatures", path: str | Path) -> None:
    """Write features as .npy files into a new directory, a block at a time. Raises InputError where that exists."""
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; give a directory that does not")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        _write_values(features, aside / "values.npy")
        system = np.repeat(np.arange(len(features.systems)), features.counts)
        np.save(aside / "structures.npy", system)
        np.save(aside / "atoms.npy", np.arange(len(features)) - features.ptr[system])
        np.save(aside / "numbers.npy", features.numbers.numpy())
        with (aside / "systems.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([getattr(system, column) for column in COLUMNS] for system in features.systems)
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    finally:
        rmtree(aside, ignore_errors=True)


def _write_values(features: "StoredFeatures", path: Path) -> None:
    kept = torch.float32 if features.dtype == torch.bfloat16 else features.dtype  # numpy has no bfloat16
    dtype = torch.empty(0, dtype=kept).numpy().dtype
    values = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(len(features), features.width))
    start = 0
    for _, rows in features.blocks(BLOCK_ATOMS):
        values[start : start + len(rows)] = rows.to(kept).numpy()
        start += len(rows)
    values.flush()
