"""Joint statistics that stay rows while the rows are few: then a merge costs nothing, and rows are the smaller form."""

from collections.abc import Mapping

import torch
from torch import Tensor

from latentcmp._runtime.settings import one_torch_thread
from latentcmp.statistics.joint import STATE, JointStatistics
from latentcmp.statistics.readout import Method
from latentcmp.statistics.storage import prefixed, under


class Leaf:
    """A leaf or node of a block tree: rows {name: [n, D]} with their parts [n] on the CPU, or their `JointStatistics`.

    Rows turn into statistics when a merge makes them more than twice the columns, which depends on the two alone.
    """

    def __init__(self, rows: Mapping[str, Tensor], part: Tensor, method: Method = "qr") -> None:
        self.rows, self.part, self.method = dict(rows), part, method
        self._joint: JointStatistics | None = None

    @property
    def is_rows(self) -> bool:
        return self._joint is None

    def joint(self) -> JointStatistics:
        """The statistics of all rows; the rows are gone."""
        if self._joint is None:
            widths = {name: values.shape[1] for name, values in self.rows.items()}
            self._joint = JointStatistics(widths, self.method, next(iter(self.rows.values())).device)
            with one_torch_thread():  # more would change the last bits
                self._joint.update(self.rows, self.part)
            self.rows.clear()
        return self._joint

    def merge(self, other: "Leaf") -> None:
        """Take in the rows of another, behind its own."""
        columns = sum(values.shape[1] for values in self.rows.values())
        if self.is_rows and other.is_rows and len(self.part) + len(other.part) <= 2 * columns:
            self.part = torch.cat([self.part, other.part])
            self.rows = {name: torch.cat([values, other.rows[name]]) for name, values in self.rows.items()}
        else:
            with one_torch_thread():
                self.joint().merge(other.joint())

    def tensors(self) -> dict[str, Tensor]:
        """What it holds, as `of_tensors` takes it."""
        if self._joint is None:
            return {"part": self.part} | prefixed("rows", self.rows)
        return dict(zip(STATE, self._joint.state(), strict=True))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], widths: Mapping[str, int], method: Method) -> "Leaf":
        """A pile from what `tensors` gave."""
        pile = cls(under("rows", tensors), tensors.get("part", torch.empty(0, dtype=torch.int64)), method)
        if not pile.rows:
            pile._joint = JointStatistics(widths, method).holding([tensors[name] for name in STATE])
        return pile
