"""Accumulator of all rows of one kind (atoms or structures): their joint statistics, and a sample of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.statistics.joint_moments import JointMoments, Method, Part
from latentcmp.statistics.leaf import Leaf
from latentcmp.statistics.merge_tree import MergeTree
from latentcmp.statistics.row_sample import AtomSample
from latentcmp.statistics.storage import METADATA, prefixed, tensors_of, under
from latentcmp.systems.folds import RowPart


@dataclass(frozen=True)
class SampleSizes:
    """Numbers of training and test rows that are kept, for neighbours and for errors row by row."""

    train: int = 50_000
    test: int = 10_000


@dataclass(frozen=True)
class RowLabels:
    """Labels of the rows of an update, on the host, so that a sample is chosen without host synchronisation.

    Attributes:
        part: `RowPart` of each row [n].
        key: `row_keys` [n, 3].
        row: number of each row [n].
        owner: number of the structure of each row [n].
    """

    part: np.ndarray
    key: np.ndarray
    row: np.ndarray
    owner: np.ndarray


@dataclass(frozen=True)
class SampledRows:
    """Rows of a sample in the order of their numbers.

    Attributes:
        values: {name: [m, D]}.
        owners: number of the structure of each row [m].
        complete: whether these are all rows.
    """

    values: dict[str, Tensor]
    owners: np.ndarray
    complete: bool


class RowAccumulator:
    """Joint statistics of all rows, block by block, and samples of training and of test rows.

    Both have the same bits for any order and distribution of the blocks.

    Args:
        widths: columns of each feature matrix, by name.
        n_blocks: number of blocks that all rows are cut into.
        sizes: capacities of the samples.
        method: that of `JointStatistics`.
    """

    def __init__(self, widths: Mapping[str, int], n_blocks: int, sizes: SampleSizes, method: Method = "qr") -> None:
        self.widths, self.sizes, self.method = dict(widths), sizes, method
        self.tree: MergeTree[Leaf] = MergeTree(n_blocks)
        capacities: dict[Part, int] = {"train": sizes.train, "test": sizes.test}
        self._samples = {
            part: AtomSample(self.widths, capacity, labels=("row", "owner")) for part, capacity in capacities.items()
        }
        self.n_rows: dict[Part, int] = {"train": 0, "test": 0}

    def update(self, block: int, features: Mapping[str, Tensor], labels: RowLabels) -> None:
        """Add the rows {name: [n, D]} of a block on one device. Raises InputError for a block added before."""
        self.tree.add(block, Leaf(features, torch.from_numpy(labels.part.astype(np.int64)), self.method))
        is_test = labels.part == RowPart.TEST
        for part, sample in self._samples.items():
            chosen = np.flatnonzero(is_test if part == "test" else ~is_test)
            index = torch.from_numpy(chosen)
            rows = {name: values[copy_without_sync(index, values.device)] for name, values in features.items()}
            sample.update(labels.key[chosen], rows, {"row": labels.row[chosen], "owner": labels.owner[chosen]})
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

    def sampled(self, part: Part) -> SampledRows:
        """Return the sample of the training rows or of the test rows."""
        _, features, labels = self._samples[part].compute()
        order = labels["row"].argsort()
        index = torch.from_numpy(order)
        values = {name: features[name][index.to(features[name].device)] for name in self.widths}
        return SampledRows(values, labels["owner"][order], len(order) == self.n_rows[part])

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
            self.tree.put(level, index, Leaf.from_state_dict(under(place, nodes), self.widths, self.method))
        for part, sample in self._samples.items():
            metadata = sample.state_dict()[METADATA]
            sample.load_state_dict({**under(f"sample/{part}", tensors), METADATA: metadata})
