"""The interface of a measure: its name, how its values are shown, and the functions that compute it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.inputs import Rows, SampledMatrices
from latentcmp.statistics.joint_moments import Columns, JointMoments
from latentcmp.systems.group_folds import GroupFolds

ErrorName = Literal["gfre", "gfrd", "lfre"]
Kind = Literal["pair", "single"]
Needs = Literal["statistics", "rows", "row_errors"]


@dataclass(frozen=True)
class Quantity:
    """The meaning of the values of a measure and the range they are drawn on.

    Args:
        label: what the numbers are, for colour bars and axes.
        low: the lower end of the colour scale.
        high: the upper end of the colour scale.
        close: which end of the range equal matrices have.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    close: Literal["low", "high"] = "high"

    def distance(self, value: float) -> float:
        """The position of a value on the scale: 0 for equal matrices, 1 at the other end, clipped to [0, 1]."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return share if self.close == "low" else 1 - share


ERROR = Quantity("error (1 = no better than the mean)", close="low")
SIMILARITY = Quantity("similarity")
DISTANCE = Quantity("distance", high=2**0.5, close="low")
OVERLAP = Quantity("share of common neighbours")
IMBALANCE = Quantity("information imbalance (1 = unrelated)", close="low")
DIRECTIONS = Quantity("number of directions")
DIMENSION = Quantity("dimension")


@dataclass(frozen=True)
class MeasureOptions:
    """Options that measures share; each uses those it needs.

    Args:
        n_local_points: k of local errors; None for the smaller width of the pair, with folds at most 64.
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: ascending relative regularisation strengths; None for the default grid.
        columns: {name: (matrix, n)} to compare the first n columns of matrices; None to compare the matrices.
        folds: folds of groups that test every row once; None for one split, with the rules of scikit-matter
            (`latentcmp.measures.cross_validation`).
        local_alphas: as `alphas`, of local maps with folds; without folds `alphas` are those of all maps.
        sources: names of the sources of fitted maps; None for all matrices.
        rows: whether errors of fitted maps are also computed row by row, for medians and intervals.
    """

    n_local_points: int | None = None
    solver: Solver = "cutoff"
    alphas: np.ndarray | None = None
    columns: Columns | None = None
    folds: GroupFolds | None = None
    local_alphas: np.ndarray | None = None
    sources: tuple[str, ...] | None = None
    rows: bool = True


class FittedMaps(Protocol):
    """Maps between all ordered pairs of matrices, fitted to the joint moments of all training rows of a fold."""

    @property
    def n_test(self) -> int:
        """The number of test rows."""

    def squares(self, measure: str) -> Tensor:
        """Return the sums [n, n] of squared errors of all test rows."""

    def row_errors(self, source: str, rows: Mapping[str, Tensor], measure: str) -> Mapping[str, Tensor]:
        """Return the errors {target: [m]} of scaled rows {name: [m, D]} under the maps of a source."""


OfStatistics = Callable[[JointMoments, MeasureOptions], Tensor]
OfRows = Callable[[SampledMatrices, MeasureOptions], Tensor]
FitMaps = Callable[[JointMoments, MeasureOptions], Iterable[FittedMaps]]
RowErrors = Callable[[Rows, Sequence[Rows], MeasureOptions], Sequence[Tensor]]


@dataclass(frozen=True)
class Measure:
    """A measure of feature matrices, computed from their joint statistics, their rows, or errors of test rows.

    Args:
        name: the identifier it is requested by, and the name of its files.
        title: the short name in tables and figures.
        description: what it measures, in a few words.
        directed: whether the value of (source, target) differs from that of (target, source).
        kind: "pair" for one value a pair of matrices, "single" for one value a matrix.
        quantity: the meaning and the range of the values.
        statistics: values [n, n] (or [n] of kind "single") of all rows, from their joint moments.
        rows: values [n, n] (or [n]) from scaled rows: the sampled ones where a comparison keeps a sample.
        row_errors: errors [n_test] of each target reconstructed from a source, from their rows. The value is their
            root mean square; they give its interval and median.
        fit: maps fitted to the joint moments of all rows, fold by fold, whose errors of single rows stand for
            `row_errors`; the value is that of all rows.
        refitted: whether its interval can be that of `latentcmp.measures.jackknife`, with maps fitted again.
        parallel: whether `row_errors` distributes its own work over the cores.

    Raises:
        InputError: `name` is not an identifier, or no function is given.
    """

    name: str
    title: str
    description: str
    directed: bool = False
    kind: Kind = "pair"
    quantity: Quantity = SIMILARITY
    statistics: OfStatistics | None = None
    rows: OfRows | None = None
    row_errors: RowErrors | None = None
    fit: FitMaps | None = None
    refitted: bool = False
    parallel: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"the name of a measure must be an identifier, got {self.name!r}")
        if not (self.statistics or self.rows or self.row_errors or self.fit):
            raise InputError(f"measure {self.name} needs a function: statistics, rows, row_errors or fit")

    @property
    def needs(self) -> Needs:
        """What the measure is computed from."""
        if self.row_errors or self.fit:
            return "row_errors"
        return "rows" if self.rows else "statistics"
