"""Write the features of one extraction: safetensors shards, then the index that completes them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentcmp._runtime.files import read_tensors, remove_temporaries, write_tensors
from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.features.index import FORMAT, INDEX, FeatureShard, Index, shard_name
from latentcmp.systems.system import SystemRecord

SHARDS = "features-*.safetensors"
SHARD_ATOMS = 65_536


class FeatureWriter:
    """Writer of the shards of one extraction, then of their index.

    Complete shards that an interrupted run of the same request left are kept; `is_written` says which.

    Args:
        directory: the directory; it is made where it is missing.
        request: model, layer, structures and options of the extraction.
        n_shards: number of shards.
        overwrite: remove all features in the directory first.

    Raises:
        InputError: the directory contains features of another request, or cannot be written.
    """

    def __init__(self, directory: str | Path, request: Metadata, n_shards: int, overwrite: bool = False) -> None:
        self.directory, self.request, self.n_shards = Path(directory), request, n_shards
        self._shards: dict[int, FeatureShard] = {}
        self._width, self._dtype = 0, ""
        self._manifest: Metadata = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for pattern in (SHARDS, INDEX):
                remove_temporaries(self.directory, pattern)
            if overwrite:
                remove_features(self.directory)
        except OSError as error:
            raise InputError(f"{self.directory} cannot be written: {error.strerror}; give another directory") from error
        self._keep_complete_shards()

    def is_written(self, number: int) -> bool:
        """Whether a shard (counted from 0) is complete."""
        return number in self._shards

    def write(
        self,
        number: int,
        values: Tensor,
        counts: Sequence[int],
        numbers: Tensor,
        manifest: Metadata,
        first: int,
    ) -> None:
        """Write one shard.

        Args:
            number: index of the shard, from 0.
            values: [n_atoms, D], any device and dtype.
            counts: atoms of each system of the shard.
            numbers: [n_atoms] atomic numbers.
            manifest: metadata of the features.
            first: index of the shard's first system among all systems, from 0.
        """
        sizes = torch.tensor(counts, dtype=torch.int64)
        system = torch.repeat_interleave(torch.arange(first, first + len(sizes)), sizes)
        atom = torch.arange(len(values)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        tensors = {"values": values}
        for name, column in (("system", system), ("atom", atom), ("number", numbers)):
            tensors[name] = column.to(torch.int32)
        metadata = {"request": self.request, "manifest": manifest, "n_systems": len(sizes)}
        digest = write_tensors(self._path(number), tensors, metadata, FORMAT)
        self._register(number, values, metadata, digest)

    def finish(self, systems: Sequence[SystemRecord], manifest: Metadata) -> None:
        """Write the index, with `manifest` merged into the metadata of the shards."""
        shards, merged = [self._shards[number] for number in range(self.n_shards)], self._manifest | manifest
        Index(self.request, merged, self._width, self._dtype, list(systems), shards).write(self.directory)

    def _keep_complete_shards(self) -> None:
        """Register the complete shards of this request; a damaged one is written again."""
        if (self.directory / INDEX).exists():
            self._check_request(Index.read(self.directory).request)
        numbers = {self._path(number): number for number in range(self.n_shards)}
        for path in sorted(self.directory.glob(SHARDS)):
            try:
                tensors, metadata, digest = read_tensors(path, FORMAT, "shard of features")
            except InputError:
                continue
            self._check_request(metadata["request"])
            if path in numbers:
                self._register(numbers[path], tensors["values"], metadata, digest)

    def _check_request(self, other: Metadata) -> None:
        keys = [key for key in {**self.request, **other} if self.request.get(key) != other.get(key)]
        if keys:
            differences = ", ".join(f"{key} {other.get(key)!r}, not {self.request.get(key)!r}" for key in keys[:3])
            raise InputError(
                f"{self.directory} contains other features ({differences}); give another directory, or --overwrite"
            )

    def _register(self, number: int, values: Tensor, metadata: Metadata, digest: str) -> None:
        self._shards[number] = FeatureShard(metadata["n_systems"], len(values), digest)
        self._width, self._dtype = values.shape[1], str(values.dtype).removeprefix("torch.")
        self._manifest = metadata["manifest"]

    def _path(self, number: int) -> Path:
        return self.directory / shard_name(number + 1, self.n_shards)


def holds_features(directory: Path) -> bool:
    """Whether a directory contains features, complete or not."""
    return (directory / INDEX).exists() or any(directory.glob(SHARDS))


def remove_features(directory: Path) -> None:
    """Remove the features in a directory, the index first, so that an interrupted removal reads as incomplete."""
    (directory / INDEX).unlink(missing_ok=True)
    for path in directory.glob(SHARDS):
        path.unlink()
