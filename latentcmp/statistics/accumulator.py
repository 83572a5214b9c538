"""What the errors of one kind of rows need of any number of them: joint statistics of all, and a sample."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import without_waiting
from latentcmp.statistics.leaf import Leaf
from latentcmp.statistics.merge_tree import MergeTree
from latentcmp.statistics.readout import Method
from latentcmp.statistics.row_sample import AtomSample
from latentcmp.statistics.storage import prefixed, under
from latentcmp.systems.folds import RowPart

_ROW, _OWNER, _KEY = "#row", "#owner", "#key"


@dataclass(frozen=True)
class Limits:
    """How many training and test rows are kept as they are, for neighbours and for errors row by row."""

    train: int = 50_000
    test: int = 10_000


@dataclass(frozen=True)
class Labels:
    """Who the rows of an update are: their part, sample key, row number, and the number of the structure they are of.

    All [n] (keys [n, 3], of `row_keys`) on the host, so that picking rows of a sample never waits for a device.
    """

    part: np.ndarray
    key: np.ndarray
    row: np.ndarray
    owner: np.ndarray


@dataclass(frozen=True)
class SampledRows:
    """Rows [n, D] by name, the number of the structure that each is of [n], and whether they are all there were."""

    values: dict[str, Tensor]
    owners: np.ndarray
    complete: bool


class RowAccumulator:
    """Joint statistics of all rows, block by block, and two samples: of the training and of the test rows.

    Both are the same for any order and distribution of the blocks, bit for bit.
    """

    def __init__(self, widths: Mapping[str, int], n_blocks: int, limits: Limits, method: Method = "qr") -> None:
        self.widths, self.method, self.limits = dict(widths), method, limits
        self.tree: MergeTree[Leaf] = MergeTree(n_blocks)
        kept = {**self.widths, _ROW: 1, _OWNER: 1}
        self.samples = AtomSample(kept, limits.train), AtomSample(kept, limits.test)
        self.n_rows = np.zeros(2, dtype=np.int64)

    def add(self, block: int, features: Mapping[str, Tensor], labels: Labels) -> None:
        """Take in the rows of a block, {name: [n, D]} on one device. Raises InputError for a block taken in before."""
        self.tree.add(block, Leaf(features, torch.from_numpy(labels.part.astype(np.int64)), self.method))
        numbers = {_ROW: labels.row, _OWNER: labels.owner}
        rows = dict(features) | {name: torch.from_numpy(found)[:, None] for name, found in numbers.items()}
        tested = labels.part == RowPart.TEST
        for side, mine in enumerate((~tested, tested)):
            chosen = np.flatnonzero(mine)
            index = torch.from_numpy(chosen)
            kept = {name: values[without_waiting(index, values.device)] for name, values in rows.items()}
            self.samples[side].update(labels.key[chosen], kept)
            self.n_rows[side] += len(chosen)

    def merge(self, other: "RowAccumulator") -> None:
        """Take in what another has gathered of other blocks."""
        self.tree.merge(other.tree)
        for mine, found in zip(self.samples, other.samples, strict=True):
            mine.merge(found)
        self.n_rows += other.n_rows

    def sampled(self, side: int) -> SampledRows:
        """The rows kept of the training rows (0) or of the test rows (1), in the order of their numbers."""
        _, kept = self.samples[side].rows()
        order = kept[_ROW][:, 0].argsort()
        values = {name: kept[name][order.to(kept[name].device)] for name in self.widths}
        return SampledRows(values, kept[_OWNER][order, 0].numpy(), len(order) == self.n_rows[side])

    def tensors(self) -> dict[str, Tensor]:
        """What was gathered, on the CPU, as `take` takes it."""
        found = {"n_rows": torch.from_numpy(self.n_rows)}
        for (level, index), node in self.tree.nodes.items():
            found |= prefixed(f"node/{level}.{index}", node.tensors())
        for side, sample in enumerate(self.samples):
            keys, rows = sample.rows()
            found |= prefixed(f"sample{side}", {_KEY: torch.from_numpy(keys.view(np.int64)), **rows})
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take in what `tensors` gave of other blocks."""
        self.n_rows += tensors["n_rows"].numpy()
        nodes = under("node", tensors)
        for place in sorted({name.partition("/")[0] for name in nodes}):
            level, index = map(int, place.split("."))
            self.tree.put(level, index, Leaf.of_tensors(under(place, nodes), self.widths, self.method))
        for side, sample in enumerate(self.samples):
            rows = under(f"sample{side}", tensors)
            sample.update(rows.pop(_KEY).numpy().view(np.uint64), rows)
