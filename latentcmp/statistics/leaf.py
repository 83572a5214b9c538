"""Joint statistics that stay rows while the rows are few: merging them costs nothing, and rows are the smaller form."""

from collections.abc import Mapping

import torch
from torch import Tensor

from latentcmp._runtime.settings import one_torch_thread
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Method
from latentcmp.statistics.storage import METADATA, prefixed, tensors_of, under
from latentcmp.systems.folds import RowPart


class Leaf:
    """A node of a merge tree: rows {name: [n, D]} with their parts [n] on the CPU, or their `JointStatistics`.

    Rows become statistics when a merge makes them the larger form of the two, which depends on their shapes alone.
    """

    def __init__(
        self, rows: Mapping[str, Tensor], part: Tensor, method: Method = "qr", n_parts: int = len(RowPart)
    ) -> None:
        self.rows, self.part, self.method, self.n_parts = dict(rows), part, method, n_parts
        self._joint: JointStatistics | None = None

    @property
    def is_rows(self) -> bool:
        """Whether the rows themselves are held."""
        return self._joint is None

    def joint(self) -> JointStatistics:
        """Return the statistics of all rows, which replace the rows."""
        if self._joint is None:
            with one_torch_thread():  # more would change the last bits
                self._joint = JointStatistics.of(self.rows, self.part, self.method, self.n_parts)
            self.rows.clear()
        return self._joint

    def merge(self, other: "Leaf") -> None:
        """Add the rows of another, behind its own."""
        columns = sum(values.shape[1] for values in self.rows.values())
        if self.is_rows and other.is_rows and len(self.part) + len(other.part) <= (self.n_parts - 1) * columns:
            self.part = torch.cat([self.part, other.part])
            self.rows = {name: torch.cat([values, other.rows[name]]) for name, values in self.rows.items()}
        else:
            with one_torch_thread():
                self.joint().merge(other.joint())
            self.joint().compact()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rows and their parts, or the tensors of their statistics."""
        if self._joint is None:
            return {"part": self.part} | prefixed("rows", self.rows)
        return tensors_of(self._joint.state_dict())

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], widths: Mapping[str, int], method: Method, n_parts: int = len(RowPart)
    ) -> "Leaf":
        """Make the node of a `state_dict`."""
        leaf = cls(under("rows", state), state.get("part", torch.empty(0, dtype=torch.int64)), method, n_parts)
        if not leaf.rows:
            leaf._joint = JointStatistics(widths, method, n_parts=n_parts)
            metadata = leaf._joint.state_dict()[METADATA]
            leaf._joint.load_state_dict({**state, METADATA: metadata})
        return leaf
