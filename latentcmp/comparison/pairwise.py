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
from latentcmp.measures.global_errors import GlobalMaps, fit_global_maps
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
        maps = fit_global_maps(moments, self.solver, self.alphas, columns) if {*self.measures} - {"lfre"} else None
        found: dict[str, ErrorMatrix] = {}
        for measure in self.measures:
            if measure == "lfre" or maps is None:
                cells = self._local_cells(list(rows.values()), owners, advance)
            else:
                cells = _global_cells(maps, rows, measure, owners)
                cells = cells if complete else _with_values(cells, maps.errors(measure))
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
        """The rows kept, scaled as all rows are; whose the test rows are, and if they are all."""
        with one_torch_thread():  # more would change the last bits
            scalings = moments.scaled(columns).scalings
        train, test = gathered.sampled("train"), gathered.sampled("test")
        rows = {}
        for name, scaling in scalings.items():
            matrix, width = columns[name] if columns else (name, gathered.widths[name])
            rows[name] = Rows(*(scaling(kept.values[matrix][:, :width].double()) for kept in (train, test)))
        return rows, Owners([structure(number) for number in test.owners.tolist()]), test.complete

    def _local_cells(
        self, rows: list[Rows], owners: Owners, advance: Callable[[int, int], None]
    ) -> list[list[Summary]]:
        cells = []
        for source in rows:  # each spreads its own batches over the cores
            errors = pointwise_errors(
                source, rows, "lfre", n_local_points=self.n_local_points, solver=self.solver, alphas=self.alphas
            )
            cells.append([owners.summarise(row_errors) for row_errors in errors])
            advance(len(cells), len(rows))
        return cells


def _global_cells(maps: GlobalMaps, rows: dict[str, Rows], measure: Measure, owners: Owners) -> list[list[Summary]]:
    test = {name: each.test for name, each in rows.items()}

    def cells_of(source: str) -> list[Summary]:
        return [owners.summarise(errors) for errors in maps.row_errors(source, test, measure).values()]

    return map_over_cores(cells_of, maps.names, test[maps.names[0]].device)


def _with_values(cells: list[list[Summary]], values: Tensor) -> list[list[Summary]]:
    return [
        [replace(cell, value=value) for cell, value in zip(row, found, strict=True)]
        for row, found in zip(cells, values.tolist(), strict=True)
    ]
