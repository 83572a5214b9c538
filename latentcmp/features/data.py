"""Features of one model on structures, in memory."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.features.writer import SHARD_ATOMS, FeatureWriter, holds_features
from latentcmp.models.batching import batches
from latentcmp.systems.system import SystemRecord


@dataclass(eq=False)
class Features:
    """Atom features of one model at one layer.

    Attributes:
        values: features [n_atoms, D], on the model's device in its dtype.
        ptr: CSR offsets [n_systems + 1] of the systems' rows, int64, same device.
        ids: ids of the systems.
        numbers: atomic numbers [n_atoms], int64, on the CPU.
        manifest: metadata: model, layer, structures.
        systems: records of the systems; may be empty where only their ids are known.

    Examples:
        >>> import torch
        >>> water = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.3, 0.4]])
        >>> features = Features(water, torch.tensor([0, 3]), ["water"], torch.tensor([8, 1, 1]))
        >>> len(features)
        3
        >>> features.records[0].n_atoms
        3
    """

    values: Tensor
    ptr: Tensor
    ids: list[str]
    numbers: Tensor
    manifest: Metadata = field(default_factory=dict)
    systems: list[SystemRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def records(self) -> list[SystemRecord]:
        """Records of the systems; a system of which only the id is known is its own group."""
        counts = self.ptr.diff().tolist()
        return self.systems or [SystemRecord(id, count, id) for id, count in zip(self.ids, counts, strict=True)]

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write the features to a directory that `latentcmp compare` and `latentcmp.open_features` read.

        Args:
            directory: the directory, which need not exist.
            overwrite: replace features that are in the directory.

        Raises:
            InputError: the directory contains features, or cannot be written.
        """
        if holds_features(Path(directory)) and not overwrite:
            raise InputError(f"{directory} contains features already; give another directory, or overwrite=True")
        shards = list(batches(self.records, SHARD_ATOMS))
        writer = FeatureWriter(directory, self.manifest, len(shards), overwrite=True)
        first = 0
        for number, shard in enumerate(shards):
            counts = [len(record) for record in shard]
            start = int(self.ptr[first])
            rows = slice(start, start + sum(counts))
            writer.write(number, self.values[rows], counts, self.numbers[rows], self.manifest, first)
            first += len(shard)
        writer.finish(self.records, {})
