"""Values of a measure for all ordered pairs of feature matrices, or for each of them, with their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from latentcmp.measures.bootstrap import Summary
from latentcmp.measures.matrix_html import matrix_html
from latentcmp.measures.measure import Measure
from latentcmp.measures.registry import MEASURES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ErrorMatrix:
    """Values of a measure for every source (row) and target (column).

    Args:
        measure: the name of the measure in `latentcmp.measures.registry.MEASURES`.
        names: names of the feature matrices.
        values: [n_sources, n_targets], float64 on the CPU.
        summaries: [source][target], the interval, the median and the structure with the largest share of each error;
            empty for measures without row errors.
    """

    measure: str
    names: tuple[str, ...]
    values: Tensor
    summaries: list[list[Summary]] = field(default_factory=list)

    @property
    def about(self) -> Measure:
        """The measure: its title, its direction, the meaning and the range of its values."""
        return MEASURES[self.measure]

    def position(self, name: str) -> int:
        """The position of a matrix. Raises KeyError for an unknown name."""
        return _position(name, self.names)

    def with_values(self, values: Tensor) -> "ErrorMatrix":
        """The same summaries with other values [n_sources, n_targets]."""
        cells = [
            [replace(cell, value=value) for cell, value in zip(*pair, strict=True)]
            for pair in zip(self.summaries, values.tolist(), strict=True)
        ]
        return replace(self, values=values, summaries=cells)

    def with_intervals(self, low: Tensor, high: Tensor) -> "ErrorMatrix":
        """The same values and summaries with other intervals, their ends [n_sources, n_targets]."""
        cells = [
            [replace(cell, low=a, high=b) for cell, a, b in zip(*row, strict=True)]
            for row in zip(self.summaries, low.tolist(), high.tolist(), strict=True)
        ]
        return replace(self, summaries=cells)

    @property
    def heading(self) -> str:
        """The title of the measure, and where sources and targets stand."""
        return f"{self.about.title} ({'source in rows, target in columns' if self.about.directed else 'symmetric'})"

    def __getitem__(self, pair: tuple[str, str]) -> float:
        """`matrix["a", "b"]` is the value of source a and target b."""
        source, target = (_position(name, self.names) for name in pair)
        return float(self.values[source, target])

    def to_pandas(self) -> "pd.DataFrame":
        """The matrix as a DataFrame, sources as index and targets as columns."""
        import pandas as pd

        columns = pd.Index(self.names, name="target")
        return pd.DataFrame(self.values.numpy(), index=pd.Index(self.names, name="source"), columns=columns)

    def tolist(self) -> list[list[float]]:
        """Rows of numbers, [source][target]."""
        return self.values.tolist()

    def __repr__(self) -> str:
        return _text(self.heading, self.names, self.names, self.tolist())

    def _repr_html_(self) -> str:
        return matrix_html(self.heading, self.names, self.names, self.tolist(), self.about.quantity.distance)


@dataclass(frozen=True, eq=False)
class FeatureValues:
    """Values of a measure that describes one feature matrix at a time.

    Args:
        measure: the name of the measure in `latentcmp.measures.registry.MEASURES`.
        names: names of the feature matrices.
        values: [n], float64 on the CPU.
    """

    measure: str
    names: tuple[str, ...]
    values: Tensor

    @property
    def about(self) -> Measure:
        """The measure: its title, the meaning and the range of its values."""
        return MEASURES[self.measure]

    @property
    def heading(self) -> str:
        """The title of the measure."""
        return self.about.title

    def __getitem__(self, name: str) -> float:
        """`values["a"]` is the value of matrix a."""
        return float(self.values[_position(name, self.names)])

    def to_pandas(self) -> "pd.Series":
        """The values as a Series, named after the measure."""
        import pandas as pd

        return pd.Series(self.values.numpy(), index=pd.Index(self.names, name="matrix"), name=self.measure)

    def tolist(self) -> list[float]:
        """One number a matrix."""
        return self.values.tolist()

    def __repr__(self) -> str:
        return _text(self.heading, ("",), self.names, [self.tolist()])

    def _repr_html_(self) -> str:
        return matrix_html(self.heading, ("",), self.names, [self.tolist()], lambda _: 0.0)


def _position(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise KeyError(f"{name!r} is not one of the matrices; they are {', '.join(names)}")
    return names.index(name)


def _text(heading: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """A table of numbers with three decimals, its columns as wide as their names."""
    wide = max(map(len, rows))
    widths = [max(len(name), 6) for name in columns]
    head = " " * wide + "".join(f"  {name:>{width}}" for name, width in zip(columns, widths, strict=True))
    lines = (
        f"{name:<{wide}}" + "".join(f"  {value:>{width}.3f}" for value, width in zip(row, widths, strict=True))
        for name, row in zip(rows, values, strict=True)
    )
    return "\n".join([heading, head, *lines])
