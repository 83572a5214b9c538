"""Features of one model on structures, in memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.features.writer import SHARD_ATOMS, FeatureWriter, holds_features
from latentcmp.models.batching import batches
from latentcmp.systems.system import SystemRecord


@dataclass(eq=False)
class Features:
    """Atom features of one model at one layer.

    `values` [n_atoms, D] lie on the model's device in its own dtype, `ptr` [n_systems + 1] (int64, same device)
    are the CSR offsets of the systems, named by `ids`; `numbers` [n_atoms] are atomic numbers (int64, CPU). `systems`
    say more of each system than its id, where more is known.
    """

    values: Tensor
    ptr: Tensor
    ids: list[str]
    numbers: Tensor
    manifest: dict[str, Any] = field(default_factory=dict)
    systems: list[SystemRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def records(self) -> list[SystemRecord]:
        """What is kept of each system beside its rows; a system of which only the id is known is its own group."""
        counts = self.ptr.diff().tolist()
        return self.systems or [SystemRecord(id, count, id) for id, count in zip(self.ids, counts, strict=True)]

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write a directory that `latentcmp compare` and `latentcmp.open_features` read.

        Args:
            directory: the directory, which need not exist.
            overwrite: replace the features that the directory holds already.

        Raises:
            InputError: the directory holds features already, or cannot be written.
        """
        if holds_features(Path(directory)) and not overwrite:
            raise InputError(f"{directory} holds features already; give another directory, or overwrite=True")
        shards = list(batches(self.records, SHARD_ATOMS))
        writer = FeatureWriter(directory, self.manifest, len(shards), overwrite=True)
        first = 0
        for number, shard in enumerate(shards):
            counts = [len(record) for record in shard]
            start = int(self.ptr[first])
            rows = slice(start, start + sum(counts))
            writer.put(number, self.values[rows], counts, self.numbers[rows], self.manifest, first)
            first += len(shard)
        writer.finish(self.records, {})
