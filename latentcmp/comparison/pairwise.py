"""From accumulated rows, or rows in memory, to the values of measures between all ordered pairs of matrices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.comparison.result import Level
from latentcmp.errors import InputError
from latentcmp.measures.bootstrap import Owners
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.inputs import Rows, local_points
from latentcmp.measures.measure import FittedMaps, Measure, MeasureOptions
from latentcmp.measures.registry import MEASURES
from latentcmp.statistics.accumulator import RowAccumulator
from latentcmp.statistics.joint_moments import JointMoments

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class LevelInput:
    """Rows of one kind (atoms, or structures) as measures take them.

    Args:
        rows: scaled rows of every matrix: all of them, or a sample.
        owners: the structure of each test row in `rows`.
        moments: returns the joint moments of all rows, computed when first called.
        n_train: the number of all training rows.
        n_test: the number of all test rows.
        complete: whether `rows` hold all test rows.
    """

    rows: dict[str, Rows]
    owners: Owners
    moments: Callable[[], JointMoments]
    n_train: int
    n_test: int
    complete: bool


def accumulated(
    accumulator: RowAccumulator, options: MeasureOptions, structure: Callable[[int], str] = str
) -> LevelInput:
    """Sampled rows, scaled as all rows are, and the moments of all rows.

    Args:
        accumulator: the accumulated rows.
        options: their `columns` choose the leading columns of matrices.
        structure: names the structure of a number.
    """
    moments = accumulator.compute()
    with one_torch_thread():  # more would change the last bits
        scalings = moments.scaled(options.columns).scalings
    train, test = accumulator.sampled("train"), accumulator.sampled("test")
    rows = {}
    for name, scaling in scalings.items():
        matrix, width = options.columns[name] if options.columns else (name, accumulator.widths[name])
        rows[name] = Rows(*(scaling(kept.values[matrix][:, :width].double()) for kept in (train, test)))
    owners = Owners([structure(number) for number in test.owners.tolist()])
    n_train, n_test = int(moments.counts[:2].sum()), int(moments.counts[2])
    return LevelInput(rows, owners, lambda: moments, n_train, n_test, test.complete)


def pairwise_level(
    given: LevelInput,
    measures: Sequence[str],
    options: MeasureOptions,
    advance: Advance = lambda done, total: None,
) -> Level:
    """All measures of all ordered pairs of matrices.

    Args:
        given: the rows.
        measures: names in `MEASURES`.
        options: options of the measures.
        advance: called with (done, total) sources of a measure that distributes its own work over the cores.
    """
    matrices, singles = {}, {}
    for measure in (MEASURES[name] for name in measures):
        if measure.row_errors or measure.fit:
            matrices[measure.name] = _error_matrix(measure, given, options, advance)
        elif measure.kind == "pair":
            matrices[measure.name] = ErrorMatrix(measure.name, tuple(given.rows), _values(measure, given, options))
        else:
            singles[measure.name] = FeatureValues(measure.name, tuple(given.rows), _values(measure, given, options))
    rows = given.rows.values()
    neighbours = [[local_points(x, y, options.n_local_points) for y in rows] for x in rows]
    return Level(matrices, given.n_train, given.n_test, neighbours if "lfre" in measures else None, singles)


def _error_matrix(measure: Measure, given: LevelInput, options: MeasureOptions, advance: Advance) -> ErrorMatrix:
    """Errors of the given rows with their summaries; with fitted maps the values are those of all rows."""
    maps = measure.fit(given.moments(), options) if measure.fit else None
    if maps:
        errors = _errors_of_maps(maps, measure, given.rows)
    else:
        errors = _row_errors(measure, list(given.rows.values()), options, advance)
    cells = [[given.owners.summarise(of_pair) for of_pair in row] for row in errors]
    values = torch.tensor([[cell.value for cell in row] for row in cells], dtype=torch.float64)
    if maps and not given.complete:
        values = maps.errors(measure.name)
        cells = [
            [replace(cell, value=value) for cell, value in zip(*pair, strict=True)]
            for pair in zip(cells, values.tolist(), strict=True)
        ]
    return ErrorMatrix(measure.name, tuple(given.rows), values, cells)


def _errors_of_maps(maps: FittedMaps, measure: Measure, rows: Mapping[str, Rows]) -> list[list[Tensor]]:
    """Errors [n_test] of every source (row) and target (column) under fitted maps."""
    test = {name: of_matrix.test for name, of_matrix in rows.items()}
    device = next(iter(test.values())).device
    return map_over_cores(lambda source: list(maps.row_errors(source, test, measure.name).values()), list(rows), device)


def _row_errors(measure: Measure, rows: list[Rows], options: MeasureOptions, advance: Advance) -> list[list[Tensor]]:
    """Errors [n_test] of every source (row) and target (column)."""

    def of_source(source: Rows) -> list[Tensor]:
        assert measure.row_errors
        return list(measure.row_errors(source, rows, options))

    if not measure.parallel:
        return map_over_cores(of_source, rows, rows[0].train.device)
    errors = []
    for source in rows:
        errors.append(of_source(source))
        advance(len(errors), len(rows))
    return errors


def _values(measure: Measure, given: LevelInput, options: MeasureOptions) -> Tensor:
    """Values [n, n], or [n] of a measure of single matrices. Raises InputError for values of another shape."""
    if measure.rows:
        values = measure.rows(given.rows, options)
    else:
        assert measure.statistics
        values = measure.statistics(given.moments(), options)
    shape = (len(given.rows),) * (2 if measure.kind == "pair" else 1)
    if values.shape != shape:
        raise InputError(f"measure {measure.name} must give values of shape {shape}, got {tuple(values.shape)}")
    return values.double().cpu()
