"""From what was gathered of some rows to the errors between all ordered pairs of their matrices."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.comparison.result import Level
from latentcmp.measures.bootstrap import Owners, Summary
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.global_errors import global_errors
from latentcmp.measures.inputs import Rows, local_points
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.measures.registry import Measure
from latentcmp.statistics.accumulator import RowAccumulator
from latentcmp.statistics.joint_moments import Columns, JointMoments


@dataclass(frozen=True)
class Job:
    """Which measures, and how, between all ordered pairs of the matrices that were gathered."""

    measures: tuple[Measure, ...]
    n_local_points: int | None
    solver: Solver
    alphas: np.ndarray

    def run(
        self,
        gathered: RowAccumulator,
        structure: Callable[[int], str] = str,
        advance: Callable[[int, int], None] = lambda done, total: None,
        columns: Columns | None = None,
    ) -> Level:
        """All measures of all pairs: of the matrices, or of `columns`. `structure` names the one of a number.

        A global error is that of all rows. A local one, and what stands behind both (interval, median, the structure
        with the largest share), is that of the rows kept. `advance(done, total)` is called after each source of the
        local errors.
        """
        moments = gathered.compute()
        rows, owners, complete = self._rows(gathered, moments, structure, columns)
        found: dict[str, ErrorMatrix] = {}
        for measure in self.measures:
            cells = self._cells(measure, list(rows.values()), owners, advance)
            if measure != "lfre" and not complete:
                cells = _with_values(cells, global_errors(moments, measure, self.solver, self.alphas, columns))
            found[measure] = ErrorMatrix(measure, tuple(rows), cells)
        n_train, n_test = int(moments.counts[:2].sum()), int(moments.counts[2])
        neighbours = [[local_points(x, y, self.n_local_points) for y in rows.values()] for x in rows.values()]
        return Level(found, n_train, n_test, neighbours if "lfre" in self.measures else None)

    def _rows(
        self,
        gathered: RowAccumulator,
        moments: JointMoments,
        structure: Callable[[int], str],
        columns: Columns | None,
    ) -> tuple[dict[str, Rows], Owners, bool]:
        """The rows kept, scaled as all rows are, with folds of all; whose the test rows are, and if they are all."""
        with one_torch_thread():  # more would change the last bits
            sides = moments.compressed(columns)
        train, test = gathered.sampled("train"), gathered.sampled("test")
        rows = {}
        for name, side in sides.items():
            matrix, width = columns[name] if columns else (name, gathered.widths[name])
            seen, unseen = (side.scaling(kept.values[matrix][:, :width].double()) for kept in (train, test))
            rows[name] = Rows(seen, unseen, side.folds)
        return rows, Owners([structure(number) for number in test.owners.tolist()]), test.complete

    def _cells(
        self, measure: Measure, rows: list[Rows], owners: Owners, advance: Callable[[int, int], None]
    ) -> list[list[Summary]]:
        def cells_of(source: Rows) -> list[Summary]:
            options = {"n_local_points": self.n_local_points, "solver": self.solver, "alphas": self.alphas}
            errors = pointwise_errors(source, rows, measure, **options)  # type: ignore[arg-type]
            return [owners.summarise(row_errors) for row_errors in errors]

        if measure != "lfre":
            return map_over_cores(cells_of, rows, rows[0].train.device)
        cells = []
        for source in rows:  # each spreads its own batches over the cores
            cells.append(cells_of(source))
            advance(len(cells), len(rows))
        return cells


def _with_values(cells: list[list[Summary]], values: Tensor) -> list[list[Summary]]:
    return [
        [replace(cell, value=value) for cell, value in zip(row, found, strict=True)]
        for row, found in zip(cells, values.tolist(), strict=True)
    ]
