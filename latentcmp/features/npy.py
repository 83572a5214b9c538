"""Stored features as plain .npy files, which any pipeline can write.

- `values.npy`: features [n, D], floats;
- `structures.npy`: the structure of each row [n]: ids, or, with a `systems.csv`, its line numbers from 0;
- `numbers.npy`: atomic numbers [n];
- `atoms.npy` (optional): index [n] of the atom in its structure; without it, the order of the rows;
- `systems.csv` (optional): metadata of the structures, with any of the columns id, group, subset, digest.

The rows of a structure must be consecutive. The values carry no digest, so damage inside them is not detected.
"""

import csv
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.features.stored import StoredFeatures
from latentcmp.features.write_npy import COLUMNS
from latentcmp.systems.system import SystemRecord


class NpyFeatures(StoredFeatures):
    """Features in a directory of .npy files, memory-mapped.

    Args:
        directory: the directory.

    Raises:
        InputError: a file is missing, broken or inconsistent with the others.
    """

    def __init__(self, directory: Path) -> None:
        values, structures = _array(directory, "values"), _array(directory, "structures")
        if values.ndim != 2 or not len(values) or values.dtype.type not in (np.float16, np.float32, np.float64):
            raise InputError(f"{directory / 'values.npy'} holds {values.dtype} {values.shape}, expected floats [n, D]")
        for name in ("structures", "numbers", *(["atoms"] if (directory / "atoms.npy").exists() else [])):
            _check_column(directory, name, _array(directory, name), len(values))
        starts = np.flatnonzero(np.r_[True, structures[1:] != structures[:-1]][: len(values)])
        counts = np.diff(np.r_[starts, len(values)])
        dtype = torch.from_numpy(np.empty(0, values.dtype.newbyteorder("="))).dtype
        manifest = {"name": directory.name, "width": values.shape[1], "dtype": str(dtype).removeprefix("torch.")}
        systems = _systems(directory, structures[starts].tolist(), counts.tolist())
        super().__init__(directory.name, systems, values.shape[1], dtype, manifest)
        self.directory, self._values = directory, values
        self._order = self._order_of_rows()

    @classmethod
    def open(cls, path: str | Path) -> "NpyFeatures":
        """Open a directory. Raises InputError that names a file which is missing, broken or inconsistent."""
        return cls(Path(os.path.abspath(path)))

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop."""
        rows = slice(start, stop) if self._order is None else self._order[start:stop]
        return torch.from_numpy(np.array(self._values[rows], dtype=self._values.dtype.newbyteorder("=")))

    @cached_property
    def numbers(self) -> Tensor:
        """Atomic numbers [n_atoms], int64."""
        numbers = np.array(_array(self.directory, "numbers"), dtype=np.int64)
        return torch.from_numpy(numbers if self._order is None else numbers[self._order])

    def _order_of_rows(self) -> np.ndarray | None:
        """The rows sorted by structure and atom, None where they are sorted."""
        if not (self.directory / "atoms.npy").exists():
            return None
        atoms = np.array(_array(self.directory, "atoms"), dtype=np.int64)
        system = np.repeat(np.arange(len(self.systems)), self.counts)
        order = np.lexsort((atoms, system))
        wrong = np.flatnonzero(atoms[order] != np.arange(len(atoms)) - self.ptr[system])
        if len(wrong):
            id, path = self.systems[system[wrong[0]]].id, self.directory / "atoms.npy"
            raise InputError(f"{path}: the atoms of structure {id!r} are not 0, 1, 2, ... once each")
        return None if (order == np.arange(len(order))).all() else order


def _array(directory: Path, name: str) -> np.ndarray:
    path = directory / f"{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}; it must be an array that numpy.save wrote") from error


def _check_column(directory: Path, name: str, array: np.ndarray, n: int) -> None:
    kinds = "iuU" if name == "structures" else "iu"
    if array.shape != (n,) or array.dtype.kind not in kinds:
        expected = "integers or strings" if name == "structures" else "integers"
        raise InputError(f"{directory / name}.npy holds {array.dtype} {array.shape}, expected {expected} [{n}]")


def _systems(directory: Path, names: list[Any], counts: list[int]) -> list[SystemRecord]:
    """Records of the structures in the order of their rows, with the metadata of systems.csv."""
    path = directory / "systems.csv"
    lines: list[dict[str, str]] = []
    if path.exists():
        try:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                lines = list(csv.DictReader(file))
        except (OSError, csv.Error) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
    by_line = bool(lines) and isinstance(names[0], int)
    metadata: dict[Any, dict[str, str]] = dict(enumerate(lines)) if by_line else {row.get("id"): row for row in lines}
    if by_line and not set(names) <= set(metadata):
        raise InputError(f"{path} has {len(lines)} lines, too few for line {max(names)} of structures.npy")
    records = []
    for name, count in zip(names, counts, strict=True):
        given = {key: value for key, value in metadata.get(name, {}).items() if key in COLUMNS and value}
        records.append(SystemRecord(**{"id": str(name), **given}, n_atoms=count))
    return records
