"""Features as latentcmp writes them: safetensors shards and an index."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._storage import read_tensors, write_tensors
from latentcmp.errors import InputError
from latentcmp.features import Features
from latentcmp.store.index import FORMAT, INDEX, Index, Shard, shard_name
from latentcmp.store.stored import StoredFeatures, stacked
from latentcmp.systems.system import SystemRecord

SHARDS = "features-*.safetensors"


class FeatureStore(StoredFeatures):
    """A directory of shards, each checked against its digest when it is first read."""

    def __init__(self, directory: Path, index: Index) -> None:
        super().__init__(directory.name, index.systems, index.width, getattr(torch, index.dtype), index.manifest)
        self.directory, self.index = directory, index
        self._ends = np.cumsum([shard.n_atoms for shard in index.shards])
        self._files: dict[int, Any] = {}

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a directory. Raises InputError for a damaged index, one of another version, and a missing shard."""
        store = cls(Path(os.path.abspath(path)), Index.read(Path(path)))
        for number in range(len(store.index.shards)):
            if not store._path(number).is_file():
                raise InputError(f"{store._path(number)} is missing; extract the features again")
        return store

    def read(self, start: int, stop: int) -> Tensor:
        return self._column("values", start, stop)

    @property
    def numbers(self) -> Tensor:
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
        """The open file of a shard, once its content has been found to be what the index says."""
        if number not in self._files:
            from safetensors import safe_open

            path = self._path(number)
            _, _, digest = read_tensors(path, FORMAT, "shard of features")
            if digest != self.index.shards[number].digest:
                raise InputError(f"{path} does not belong to the {INDEX} beside it; extract the features again")
            self._files[number] = safe_open(path, framework="pt")
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self.directory / shard_name(number + 1, len(self.index.shards))


class ShardWriter:
    """Shards of one extraction, put into a directory one by one, then the index that makes them whole.

    `request` says what is extracted. Shards that an interrupted run of the same request left are taken over; `held`
    tells which. Raises InputError where the directory holds features of another request, unless `overwrite`, which
    removes them first.
    """

    def __init__(self, directory: str | Path, request: dict[str, Any], n_shards: int, overwrite: bool = False) -> None:
        self.directory, self.request, self.n_shards = Path(directory), request, n_shards
        self._shards: dict[int, Shard] = {}
        self._width, self._dtype = 0, ""
        self._manifest: dict[str, Any] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in [*self.directory.glob(f".{SHARDS}.*"), *self.directory.glob(f".{INDEX}.*")]:
                left.unlink()
            if overwrite:
                remove_features(self.directory)
        except OSError as error:
            raise InputError(f"{self.directory} cannot be written: {error.strerror}; give another directory") from error
        self._take_over()

    def held(self, number: int) -> bool:
        """Whether a shard (counted from 0) is in place."""
        return number in self._shards

    def put(self, number: int, features: Features, first: int) -> None:
        """Write a shard (counted from 0) whose first system is the `first` of all (from 0)."""
        counts = features.ptr.diff().cpu()
        system = torch.repeat_interleave(torch.arange(first, first + len(counts)), counts)
        atom = torch.arange(len(features)) - torch.repeat_interleave(features.ptr[:-1].cpu(), counts)
        tensors = {"values": features.values}
        for name, column in (("system", system), ("atom", atom), ("number", features.numbers)):
            tensors[name] = column.to(torch.int32)
        known = {"request": self.request, "manifest": features.manifest, "n_systems": len(counts)}
        digest = write_tensors(self._path(number), tensors, known, FORMAT)
        self._note(number, features.values, known, digest)

    def finish(self, systems: Sequence[SystemRecord], manifest: dict[str, Any]) -> FeatureStore:
        """Write the index, with a manifest beside what the shards know, and open what was written."""
        shards, whole = [self._shards[number] for number in range(self.n_shards)], self._manifest | manifest
        Index(self.request, whole, self._width, self._dtype, list(systems), shards).write(self.directory)
        return FeatureStore.open(self.directory)

    def _take_over(self) -> None:
        """Find the whole shards of this request; a damaged one is made again."""
        if (self.directory / INDEX).exists():
            self._check_request(Index.read(self.directory).request)
        numbers = {self._path(number): number for number in range(self.n_shards)}
        for path in sorted(self.directory.glob(SHARDS)):
            try:
                tensors, known, digest = read_tensors(path, FORMAT, "shard of features")
            except InputError:
                continue
            self._check_request(known["request"])
            if path in numbers:
                self._note(numbers[path], tensors["values"], known, digest)

    def _check_request(self, other: dict[str, Any]) -> None:
        keys = [key for key in {**self.request, **other} if self.request.get(key) != other.get(key)]
        if keys:
            differences = ", ".join(f"{key} {other.get(key)!r}, not {self.request.get(key)!r}" for key in keys[:3])
            raise InputError(
                f"{self.directory} holds other features ({differences}); give another directory, or --overwrite"
            )

    def _note(self, number: int, values: Tensor, known: dict[str, Any], digest: str) -> None:
        self._shards[number] = Shard(known["n_systems"], len(values), digest)
        self._width, self._dtype = values.shape[1], str(values.dtype).removeprefix("torch.")
        self._manifest = known["manifest"]

    def _path(self, number: int) -> Path:
        return self.directory / shard_name(number + 1, self.n_shards)


def holds_features(directory: Path) -> bool:
    """Whether a directory holds features, whole or not."""
    return (directory / INDEX).exists() or any(directory.glob(SHARDS))


def remove_features(directory: Path) -> None:
    """Remove the features in a directory, the index first, so that what is left at any time reads as what it is."""
    (directory / INDEX).unlink(missing_ok=True)
    for path in directory.glob(SHARDS):
        path.unlink()
