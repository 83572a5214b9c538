"""Errors of every source (row) reconstructing every target (column), with labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentcmp.measures.bootstrap import Summary
from latentcmp.measures.matrix_html import matrix_html

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ErrorMatrix:
    """Errors of every source (row) rebuilding every target (column); float64, no unit, 1 = no better than the mean.

    `values` [n_sources, n_targets] lie on the CPU; `summaries` [source][target] hold what stands behind each:
    interval, median, and the structure that carries most of it.
    """

    measure: str
    names: tuple[str, ...]
    summaries: list[list[Summary]]

    @property
    def values(self) -> Tensor:
        """The errors [n_sources, n_targets]."""
        return torch.tensor([[cell.value for cell in row] for row in self.summaries], dtype=torch.float64)

    def __getitem__(self, pair: tuple[str, str]) -> float:
        """`matrix["a", "b"]` is the error of a rebuilding b."""
        source, target = pair
        unknown = [name for name in pair if name not in self.names]
        if unknown:
            raise KeyError(f"{unknown[0]!r} is not in this matrix; it has {', '.join(self.names)}")
        return float(self.values[self.names.index(source), self.names.index(target)])

    def to_pandas(self) -> "pd.DataFrame":
        """The matrix as a DataFrame, sources as index and targets as columns."""
        import pandas as pd

        columns = pd.Index(self.names, name="target")
        return pd.DataFrame(self.values.numpy(), index=pd.Index(self.names, name="source"), columns=columns)

    def tolist(self) -> list[list[float]]:
        """Rows of numbers, [source][target]."""
        return self.values.tolist()

    def __repr__(self) -> str:
        wide = max(map(len, self.names))
        head = " " * wide + "".join(f"  {name:>{max(len(name), 6)}}" for name in self.names)
        rows = (
            f"{name:<{wide}}" + "".join(f"  {v:>{max(len(n), 6)}.3f}" for n, v in zip(self.names, row, strict=True))
            for name, row in zip(self.names, self.tolist(), strict=True)
        )
        return "\n".join([f"{self.measure.upper()} (source in rows, target in columns)", head, *rows])

    def _repr_html_(self) -> str:
        return matrix_html(self.measure, self.names, self.tolist())
