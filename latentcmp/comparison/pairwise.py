"""From the rows of a level to the values of measures between all ordered pairs of matrices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.comparison.baselines import baseline_errors
from latentcmp.comparison.level_rows import FoldedRows, LevelRows
from latentcmp.comparison.result import Context, Level
from latentcmp.errors import InputError
from latentcmp.measures.effective_structures import concentrated, sizes, variance_shares
from latentcmp.measures.elements import ElementError, element_resolved
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.fold_maps import FoldMaps
from latentcmp.measures.inputs import MOST_LOCAL_POINTS, Rows, points_of_widths
from latentcmp.measures.jackknife import Deleted, delete_blocks, interval
from latentcmp.measures.learning_curve import learning_curve
from latentcmp.measures.measure import ERROR, FittedMaps, Measure, MeasureOptions
from latentcmp.measures.registry import MEASURES
from latentcmp.measures.strength_search import FoldRules
from latentcmp.statistics.part_moments import PartMoments

Advance = Callable[[int, int], None]
JACKKNIFE = "delete-a-block jackknife, maps fitted again"
BOOTSTRAP = "bootstrap over groups, maps held fixed"
Errors = list[list[Tensor]]  # of the tested rows, [source][target]


class Pairwise:
    """Measures of all ordered pairs of matrices.

    Args:
        given: the rows.
        options: options of the measures.
        advance: called with (done, total) sources of a measure that distributes its own work over the cores.
        kind: what the rows are, such as "atoms".
    """

    def __init__(
        self,
        given: LevelRows,
        options: MeasureOptions,
        advance: Advance = lambda done, total: None,
        kind: str = "rows",
    ) -> None:
        self.given, self.options, self.advance, self.kind = given, options, advance, kind
        self.names = tuple(given.widths)
        self._elements: dict[str, list[list[list[ElementError]]]] = {}
        self._intervals: dict[str, str] = {}

    def level(self, measures: Sequence[str], baselines: bool = False) -> Level:
        """Return the values of measures, by their names in `MEASURES`.

        Args:
            measures: names of the measures.
            baselines: whether errors of baselines and the learning curve are computed too.
        """
        matrices, singles = {}, {}
        for measure in (MEASURES[name] for name in measures):
            if measure.row_errors or measure.fit:
                matrices[measure.name] = self._of_rows(measure) if measure.row_errors else self._of_maps(measure)
            elif measure.kind == "pair":
                matrices[measure.name] = ErrorMatrix(measure.name, self.names, self._values(measure))
            else:
                singles[measure.name] = FeatureValues(measure.name, self.names, self._values(measure))
        given = self.given
        neighbours = self._neighbours() if "lfre" in measures else None
        context = self._context(measures, baselines) if self.options.rows else Context()
        return Level(matrices, given.n_train, given.n_test, neighbours, singles, given.n_folds, context)

    def _context(self, measures: Sequence[str], baselines: bool) -> Context:
        """Baselines, shares of structures, errors by element and the learning curve, of folds."""
        given, options = self.given, self.options
        if not isinstance(given, FoldedRows) or options.folds is None:
            return Context()
        variance = variance_shares(given.tested().values, given.owners)
        context = Context(
            variance=variance,
            sizes=sizes(self._block_moments, given.n_train),
            elements=self._elements,
            intervals=self._intervals,
            warnings=list(concentrated(variance, self.kind)),
        )
        if not baselines:
            return context
        errors = [MEASURES[name] for name in measures if MEASURES[name].quantity is ERROR]
        context = replace(context, baselines=baseline_errors(given, errors, options))
        if "gfre" not in measures:
            return context
        rules = FoldRules.of(options.solver, options.alphas, self._block_moments.grams.device)
        curve = learning_curve(self._block_moments, options.folds, rules)
        matrices = {fraction: ErrorMatrix("gfre", self.names, values) for fraction, values in curve.items()}
        return replace(context, learning_curve=matrices, within_elements=given.within_elements(rules))

    def _neighbours(self) -> list[list[int]]:
        widths, most = self.given.widths.values(), self.given.n_held_for_training
        k, limit = self.options.n_local_points, MOST_LOCAL_POINTS if self.options.folds else None
        return [[k or min(points_of_widths(x, y, limit), most) for y in widths] for x in widths]

    def _of_maps(self, measure: Measure) -> ErrorMatrix:
        """Errors of fitted maps: the values are those of all rows, their summaries those of the rows that are held."""
        assert measure.fit
        squares, n_test, errors, spreads, deleted = torch.zeros(()), 0, [], [], []
        for number, maps in enumerate(measure.fit(self.given.moments(), self.options)):
            if not (self.options.rows and self.given.complete):  # else they are those of the rows
                squares, n_test = squares + maps.squares(measure.name), n_test + maps.n_test
            if not self.options.rows:
                continue
            test = self.given.fold_test(number)
            errors.append(_errors_of_maps(maps, measure, test))
            spreads.append([rows.square().sum(1).cpu() for rows in test.values()])
            if measure.refitted and isinstance(maps, FoldMaps) and self._can_refit:
                deleted.append(self._without_blocks(maps))
        if not errors:
            return ErrorMatrix(measure.name, self.names, (squares / n_test).sqrt())
        matrix = self._matrix(measure, errors, spreads, resample=not deleted)
        if not self.given.complete:
            matrix = matrix.with_values((squares / n_test).sqrt())
        if not deleted:
            return matrix
        self._intervals[measure.name] = JACKKNIFE
        return matrix.with_intervals(*interval(matrix.values, deleted))

    def _of_rows(self, measure: Measure) -> ErrorMatrix:
        """Errors of rows from rows, fold by fold."""
        assert measure.row_errors
        errors, spreads = [], []
        for number in range(self.given.n_folds):
            rows = list(self.given.fold(number).values())
            errors.append(self._row_errors(measure, rows, number))
            spreads.append([of_matrix.test.square().sum(1).cpu() for of_matrix in rows])
        return self._matrix(measure, errors, spreads)

    def _row_errors(self, measure: Measure, rows: list[Rows], fold: int) -> Errors:
        def of_source(source: Rows) -> list[Tensor]:
            assert measure.row_errors
            return list(measure.row_errors(source, rows, self.options))

        if not measure.parallel:
            return map_over_cores(of_source, rows, rows[0].train.device)
        errors = []
        for source in rows:
            errors.append(of_source(source))
            self.advance(fold * len(rows) + len(errors), self.given.n_folds * len(rows))
        return errors

    def _matrix(
        self, measure: Measure, folds: Sequence[Errors], spreads: Sequence[list[Tensor]], resample: bool = True
    ) -> ErrorMatrix:
        """The matrix of errors of tested rows, fold after fold, with the squares of the targets' distances."""
        names = range(len(self.names))
        pooled = [[torch.cat([errors[x][y] for errors in folds]) for y in names] for x in names]
        self._intervals[measure.name] = BOOTSTRAP
        cells = [[self.given.owners.summarise(of_pair, resample) for of_pair in row] for row in pooled]
        if isinstance(self.given, FoldedRows) and self.given.elements.any():
            spread = [torch.cat([of_fold[y] for of_fold in spreads]) for y in names]
            self._elements[measure.name] = [[self._by_element(pooled[x][y], spread[y]) for y in names] for x in names]
        values = torch.tensor([[cell.value for cell in row] for row in cells], dtype=torch.float64)
        return ErrorMatrix(measure.name, self.names, values, cells)

    def _by_element(self, errors: Tensor, spread: Tensor) -> list[ElementError]:
        assert isinstance(self.given, FoldedRows)
        numbers = self.given.elements[self.given.order]
        return element_resolved(errors.square().cpu(), spread, numbers, self.given.owners.groups.numpy())

    @property
    def _can_refit(self) -> bool:
        """Whether intervals are those of the jackknife: there are blocks within the folds, and a Gram matrix solves."""
        folds = self.options.folds
        return bool(folds and folds.n_blocks > len(folds.blocks) and self.options.solver == "ridge")

    def _without_blocks(self, maps: FoldMaps) -> Deleted:
        assert self.options.folds
        return delete_blocks(maps, self._block_moments, self.options.folds.blocks)

    @cached_property
    def _block_moments(self) -> PartMoments:
        return PartMoments.of(self.given.moments(), self.options.columns)

    def _values(self, measure: Measure) -> Tensor:
        """Values [n, n], or [n] of a measure of single matrices. Raises InputError for values of another shape."""
        if measure.rows:
            values = measure.rows(self.given.tested(), self.options)
        else:
            assert measure.statistics
            values = measure.statistics(self.given.similarity_moments(), self.options)
        shape = (len(self.names),) * (2 if measure.kind == "pair" else 1)
        if values.shape != shape:
            raise InputError(f"measure {measure.name} must give values of shape {shape}, got {tuple(values.shape)}")
        return values.double().cpu()


def _errors_of_maps(maps: FittedMaps, measure: Measure, test: Mapping[str, Tensor]) -> Errors:
    """Errors of test rows under fitted maps."""
    device = next(iter(test.values())).device
    return map_over_cores(lambda source: list(maps.row_errors(source, test, measure.name).values()), list(test), device)
