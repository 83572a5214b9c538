"""Stored features, which are read a few structures at a time: the interface of all formats."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.finite import check_finite
from latentcmp.features.write_npy import write_npy
from latentcmp.models.batching import BLOCK_ATOMS, batches
from latentcmp.systems.system import SystemRecord, offsets


class StoredFeatures(ABC):
    """Features [n_atoms, width] of one model; the rows of a system are consecutive, in the order of its atoms.

    A format's subclass implements `read` and `numbers`.

    Args:
        label: names the features in results and messages.
        systems: records of the systems, in the order of the rows.
        width: columns of the features.
        dtype: dtype of the features.
        manifest: metadata of the features.

    Raises:
        InputError: an id occurs twice.
    """

    def __init__(
        self, label: str, systems: Sequence[SystemRecord], width: int, dtype: torch.dtype, manifest: Metadata
    ) -> None:
        self.label, self.width, self.dtype, self.manifest = label, width, dtype, manifest
        self.systems = list(systems)
        self.ptr = offsets(self.systems)
        self._position = {system.id: position for position, system in enumerate(self.systems)}
        if len(self._position) < len(self.systems):
            twice = next(s.id for i, s in enumerate(self.systems) if self._position[s.id] != i)
            raise InputError(f"structure id {twice!r} occurs twice in {label}; ids join rows and must be unique")

    @abstractmethod
    def read(self, start: int, stop: int) -> Tensor:
        """Return rows [stop - start, width] in the stored dtype, on the CPU. Raises InputError for damage."""

    @property
    @abstractmethod
    def numbers(self) -> Tensor:
        """Atomic numbers [n_atoms], int64."""

    def __len__(self) -> int:
        return int(self.ptr[-1])

    @property
    def ids(self) -> list[str]:
        """Ids of the systems, in the order of their rows."""
        return [system.id for system in self.systems]

    @property
    def counts(self) -> list[int]:
        """Numbers of atoms of the systems."""
        return [len(system) for system in self.systems]

    def numbers_of(self, id: str) -> Tensor:
        """Return the atomic numbers [n_atoms] (int64) of one system."""
        position = self._position[id]
        return self._numbers[self.ptr[position] : self.ptr[position + 1]]

    def rows(self, ids: Sequence[str]) -> Tensor:
        """Return the rows of systems in the order of `ids`. Raises InputError for damage and non-finite values."""
        positions = np.array([self._position[id] for id in ids], dtype=np.int64)
        if not len(positions):
            return torch.empty(0, self.width, dtype=self.dtype)
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1  # adjacent systems are read together
        runs = np.split(positions, breaks)
        values = stacked([self.read(int(self.ptr[run[0]]), int(self.ptr[run[-1] + 1])) for run in runs])
        check_finite(self.label, values, [self.systems[position] for position in positions])
        return values

    def blocks(self, n_atoms: int) -> Iterator[tuple[list[str], Tensor]]:
        """Yield ids and rows of consecutive systems, as many as fit in `n_atoms` atoms and at least one."""
        for block in batches(self.systems, n_atoms):
            ids = [system.id for system in block]
            yield ids, self.rows(ids)

    def to_features(self) -> Features:
        """Read all features into memory."""
        ptr = torch.from_numpy(self.ptr)
        return Features(self.rows(self.ids), ptr, self.ids, self.numbers, self.manifest, self.systems)

    def to_npy(self, path: str | Path) -> None:
        """Write .npy files (`latentcmp.features.npy`) to a new directory. Raises InputError where it exists."""
        blocks = (rows for _, rows in self.blocks(BLOCK_ATOMS))
        write_npy(path, self.systems, self.numbers, blocks, self.width, self.dtype)

    @cached_property
    def _numbers(self) -> Tensor:
        return self.numbers


def stacked(pieces: Sequence[Tensor]) -> Tensor:
    """Concatenate pieces of rows; a single piece is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


class FeaturesInMemory(StoredFeatures):
    """Features in memory with the interface of stored features.

    Args:
        label: names the features in results and messages.
        features: the features.
    """

    def __init__(self, label: str, features: Features) -> None:
        super().__init__(label, features.records, features.values.shape[1], features.values.dtype, features.manifest)
        self._features = features

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop on the CPU."""
        return self._features.values[start:stop].cpu()

    @property
    def numbers(self) -> Tensor:
        """Atomic numbers [n_atoms], int64."""
        return self._features.numbers
