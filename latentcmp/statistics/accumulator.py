"""Accumulator of all rows of one kind (atoms or structures): their joint statistics, and a sample of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.statistics.joint_moments import JointMoments, Method
from latentcmp.statistics.leaf import Leaf
from latentcmp.statistics.merge_tree import MergeTree
from latentcmp.statistics.row_sample import AtomSample
from latentcmp.statistics.storage import METADATA, prefixed, tensors_of, under
from latentcmp.systems.folds import RowPart

Sampled = Literal["train", "test", "all"]
LABELS = ("part", "row", "owner", "group", "element")


@dataclass(frozen=True)
class SampleSizes:
    """Numbers of training and test rows that are kept, for neighbours and for errors row by row.

    Where every row is tested in some fold, one sample of the larger number is kept, and as many of its rows tested.
    """

    train: int = 50_000
    test: int = 10_000


@dataclass(frozen=True)
class RowLabels:
    """Labels of the rows of an update, on the host, so that a sample is chosen without host synchronisation.

    Attributes:
        part: part of each row [n].
        key: `row_keys` [n, 3].
        row: number of each row [n].
        owner: number of the structure of each row [n].
        group: number of the group of each row [n].
        element: atomic number of each row [n], 0 for rows that are no atoms.
    """

    part: np.ndarray
    key: np.ndarray
    row: np.ndarray
    owner: np.ndarray
    group: np.ndarray
    element: np.ndarray

    def rows(self, chosen: slice) -> "RowLabels":
        """Return the labels of some rows."""
        return RowLabels(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class SampledRows:
    """Rows of a sample in the order of their numbers.

    Attributes:
        values: {name: [m, D]}.
        labels: {name: [m]} of `LABELS`.
        keys: `row_keys` [m, 3].
        complete: whether these are all rows.
    """

    values: dict[str, Tensor]
    labels: dict[str, np.ndarray]
    keys: np.ndarray
    complete: bool


class RowAccumulator:
    """Joint statistics of all rows, block by block, and a sample of the rows, or of training and of test rows.

    Both have the same bits for any order and distribution of the blocks.

    Args:
        widths: columns of each feature matrix, by name.
        n_blocks: number of blocks that all rows are cut into.
        sizes: capacities of the samples.
        method: that of `JointStatistics`.
        n_blocks_of_folds: blocks that the folds consist of, the parts of the statistics; None for the parts of
            `RowPart`, with a sample of the training rows and one of the test rows.
        described: columns of matrices that are sampled only, such as descriptors for baselines, by name.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        n_blocks: int,
        sizes: SampleSizes,
        method: Method = "qr",
        n_blocks_of_folds: int | None = None,
        described: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.widths, self.sizes, self.method = dict(widths), sizes, method
        self.n_parts = n_blocks_of_folds or len(RowPart)
        self.tree: MergeTree[Leaf] = MergeTree(n_blocks)
        capacities = {"train": sizes.train, "test": sizes.test}
        if n_blocks_of_folds:
            capacities = {"all": max(sizes.train, sizes.test)}
        self._samples = {
            name: AtomSample({**self.widths, **described}, capacity, labels=LABELS)
            for name, capacity in capacities.items()
        }
        self.n_rows = dict.fromkeys(capacities, 0)

    def update(
        self,
        block: int,
        features: Mapping[str, Tensor],
        labels: RowLabels,
        described: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Add the rows {name: [n, D]} of a block on one device. Raises InputError for a block added before."""
        self.tree.add(block, Leaf(features, torch.from_numpy(labels.part), self.method, self.n_parts))
        is_test = labels.part == RowPart.TEST
        for part, sample in self._samples.items():
            chosen = np.flatnonzero({"all": is_test | True, "test": is_test, "train": ~is_test}[part])
            index, given = torch.from_numpy(chosen), {**features, **described}
            rows = {name: values[copy_without_sync(index, values.device)] for name, values in given.items()}
            sample.update(labels.key[chosen], rows, {label: getattr(labels, label)[chosen] for label in LABELS})
            self.n_rows[part] += len(chosen)

    def merge(self, other: "RowAccumulator") -> None:
        """Add the rows of other blocks that another has accumulated."""
        self.tree.merge(other.tree)
        for part, sample in self._samples.items():
            sample.merge(other._samples[part])
            self.n_rows[part] += other.n_rows[part]

    def compute(self) -> JointMoments:
        """Return the moments of all rows. Raises InputError where there is no block."""
        with one_torch_thread():  # more would change the last bits
            return self.tree.total().joint().compute()

    def finish(self) -> JointMoments:
        """Return the moments of all rows without a copy of them; no block may be added afterwards."""
        with one_torch_thread():  # more would change the last bits
            return self.tree.total().joint().finish()

    def sampled(self, part: Sampled) -> SampledRows:
        """Return the sample of the training rows, of the test rows or of all."""
        keys, features, labels = self._samples[part].compute()
        order = labels["row"].argsort()
        index = torch.from_numpy(order)
        values = {name: rows[index.to(rows.device)] for name, rows in features.items()}
        sorted_labels = {label: of_rows[order] for label, of_rows in labels.items()}
        return SampledRows(values, sorted_labels, keys[order], len(order) == self.n_rows[part])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state on the CPU, for `load_tensors` of an accumulator made with the same arguments."""
        tensors = {"n_rows": torch.tensor(list(self.n_rows.values()))}
        for (level, index), node in self.tree.nodes.items():
            tensors |= prefixed(f"node/{level}.{index}", node.state_dict())
        for part, sample in self._samples.items():
            tensors |= prefixed(f"sample/{part}", tensors_of(sample.state_dict()))
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace all rows by those of `tensors`."""
        self.n_rows = dict(zip(self.n_rows, tensors["n_rows"].tolist(), strict=True))
        nodes = under("node", tensors)
        self.tree = MergeTree(self.tree.n_blocks)
        for place in sorted({name.partition("/")[0] for name in nodes}):
            level, index = map(int, place.split("."))
            self.tree.put(
                level, index, Leaf.from_state_dict(under(place, nodes), self.widths, self.method, self.n_parts)
            )
        for part, sample in self._samples.items():
            metadata = sample.state_dict()[METADATA]
            sample.load_state_dict({**under(f"sample/{part}", tensors), METADATA: metadata})
