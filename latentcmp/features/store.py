"""Stored features in the format of latentcmp: safetensors shards and an index."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.files import read_tensors
from latentcmp.errors import InputError
from latentcmp.features.index import FORMAT, INDEX, Index, shard_name
from latentcmp.features.stored import StoredFeatures, stacked


class FeatureStore(StoredFeatures):
    """Features in a directory of shards, each checked against its digest when it is first read.

    Args:
        directory: the directory.
        index: its index.
    """

    def __init__(self, directory: Path, index: Index) -> None:
        super().__init__(directory.name, index.systems, index.width, getattr(torch, index.dtype), index.manifest)
        self.directory, self.index = directory, index
        self._ends = np.cumsum([shard.n_atoms for shard in index.shards])
        self._files: dict[int, Any] = {}

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a directory. Raises InputError for a damaged index or one of another version, and a missing shard."""
        store = cls(Path(os.path.abspath(path)), Index.read(Path(path)))
        for number in range(len(store.index.shards)):
            if not store._path(number).is_file():
                raise InputError(f"{store._path(number)} is missing; extract the features again")
        return store

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop. Raises InputError for a damaged shard."""
        return self._column("values", start, stop)

    @property
    def numbers(self) -> Tensor:
        """Atomic numbers [n_atoms], int64."""
        return self._column("number", 0, len(self)).long()

    def _column(self, name: str, start: int, stop: int) -> Tensor:
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        pieces = []
        for number in range(first, last + 1):
            end, size = int(self._ends[number]), self.index.shards[number].n_atoms
            begin = end - size
            pieces.append(self._shard(number).get_slice(name)[max(start - begin, 0) : min(stop, end) - begin])
        return stacked(pieces)

    def _shard(self, number: int) -> Any:
        """The open file of a shard, after a check of its content."""
        if number not in self._files:
            from safetensors import safe_open

            path = self._path(number)
            _, _, digest = read_tensors(path, FORMAT, "shard of features")
            if digest != self.index.shards[number].digest:
                raise InputError(f"{path} does not belong to the {INDEX} in its directory; extract the features again")
            self._files[number] = safe_open(path, framework="pt")
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self.directory / shard_name(number + 1, len(self.index.shards))
