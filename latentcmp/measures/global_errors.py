"""Global reconstruction errors between all ordered pairs of matrices, from their joint statistics.

One map is fitted for every ordered pair (Goscinski et al., MLST 2, 025028 (2021)). The same maps give the error of all
test rows, from the statistics alone, and the errors of single rows in memory.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import batches_for, map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, TwoFoldCV
from latentcmp.measures.global_paths import TRAINING, LinearMap, Parts, Source, fit_maps
from latentcmp.measures.gram_source import GramSource
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.procrustes import distortion, orthogonal_map
from latentcmp.measures.row_source import RowSource, reduced_factors
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Columns, JointMoments, Method, Scaled
from latentcmp.systems.folds import RowPart


class GlobalMaps:
    """Linear maps between pairs of matrices, fitted to all training rows of joint statistics.

    Attributes:
        names: of the targets, in their order.
        sources: names of the sources.
        scalings: {name: Scaling} of the rows, fitted to all training rows.
        maps: {name: LinearMap} of each source to all targets side by side.
    """

    def __init__(
        self,
        scaled: Scaled,
        sources: Mapping[str, Source],
        maps: Mapping[str, LinearMap],
        train: Parts = TRAINING,
        test: int = RowPart.TEST,
    ) -> None:
        self.names, self.sources = list(scaled.columns), list(sources)
        self.scalings, self.maps = scaled.scalings, dict(maps)
        self._sources, self._scaled, self._train, self._test = sources, scaled, train, test
        self._widths = _widths(scaled)

    @property
    def n_test(self) -> int:
        """The number of test rows."""
        return self._scaled.counts[self._test]

    def errors(self, measure: str = "gfre") -> Tensor:
        """Errors of all test rows.

        Args:
            measure: "gfre" or "gfrd".

        Returns:
            [n_sources, n_names] float64 on the CPU, sources in rows.

        Raises:
            InputError: the measure is not a global one.
        """
        return (self.squares(measure) / self.n_test).sqrt()

    def squares(self, measure: str = "gfre") -> Tensor:
        """Sums of squared errors of all test rows: [n_sources, n_names], else as `errors`."""
        _check_global(measure)
        squares = self._residual_squares if measure == "gfre" else self._distortion_squares
        return torch.stack(map_over_cores(squares, self.sources, self._scaled.parts.device)).cpu()

    def row_errors(self, source: str, rows: Mapping[str, Tensor], measure: str = "gfre") -> dict[str, Tensor]:
        """Errors of rows under the maps of one source.

        Args:
            source: its name.
            rows: {name: [m, D]} float64 of all matrices, scaled by `scalings`.
            measure: "gfre" or "gfrd".

        Returns:
            {target: [m]}.

        Raises:
            InputError: the measure is not a global one.
        """
        _check_global(measure)
        predicted = self._predicted(source, rows[source])
        if measure == "gfre":
            residuals = {name: of_target.sub_(rows[name]) for name, of_target in predicted.items()}
        else:
            residuals = self._distortions(source, rows[source], predicted)
        return {name: residual.norm(dim=1) for name, residual in residuals.items()}

    def _residual_squares(self, source: str) -> Tensor:
        """Squared residuals of all test rows and columns of each target: [n_names]."""
        directions, weights = self.maps[source]
        squares = self._sources[source].residual(self._test, directions).squares(weights)
        return torch.stack([of_target.sum() for of_target in squares.split_with_sizes(self._widths)])

    def _distortion_squares(self, source: str) -> Tensor:
        """Squared distortions of all test rows for each target: [n_names]."""
        rows = self._sources[source].rows((self._test,))
        distortions = self._distortions(source, rows, self._predicted(source, rows))
        return torch.stack([residual.square().sum() for residual in distortions.values()])

    def _predicted(self, source: str, rows: Tensor) -> dict[str, Tensor]:
        """Every target [m, D_Y] predicted from rows of the source [m, D_X]."""
        side_by_side = self.maps[source].predict(rows)
        return dict(zip(self.names, side_by_side.split_with_sizes(self._widths, -1), strict=True))

    def _distortions(self, source: str, rows: Tensor, predicted: dict[str, Tensor]) -> dict[str, Tensor]:
        """Differences between predictions and those of the orthogonal map nearest to them on the training rows."""
        train = self._sources[source].rows(self._train)
        nearest = {name: orthogonal_map(train, fitted) for name, fitted in self._predicted(source, train).items()}
        return {name: distortion(rows, of_target, nearest[name]) for name, of_target in predicted.items()}


def fit_global_maps(
    statistics: JointStatistics | JointMoments,
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    columns: Columns | None = None,
) -> GlobalMaps:
    """Fit the maps between all ordered pairs of matrices.

    Args:
        statistics: joint statistics, or their moments, with rows in both folds and in the test part.
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: relative strengths in [0, 1); None for the default grid.
        columns: {name: (matrix, n)} to take the first n columns of matrices; None to take the matrices.

    Raises:
        InputError: a part has too few rows, a matrix is constant over the training rows, a value was not finite, or
            the solver or the strengths are not valid.
    """
    moments = statistics.compute() if isinstance(statistics, JointStatistics) else statistics
    rules = TwoFoldCV.of(solver, alphas, moments.parts.device, moments.rcond)
    scaled = moments.scaled(columns)
    sources = _sources(scaled, moments.method)

    def fit(members: Sequence[Source]) -> list[LinearMap]:
        return list(fit_maps(members, _widths(scaled), scaled.counts, rules))

    batches = map_over_cores(fit, batches_for(sources, scaled.parts.device), scaled.parts.device)
    maps = [of_source for batch in batches for of_source in batch]
    return GlobalMaps(
        scaled, dict(zip(scaled.columns, sources, strict=True)), dict(zip(scaled.columns, maps, strict=True))
    )


def global_errors(
    statistics: JointStatistics | JointMoments,
    measure: ErrorName = "gfre",
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    columns: Columns | None = None,
) -> Tensor:
    """GFRE or GFRD of all ordered pairs of matrices.

    Args:
        statistics: as for `fit_global_maps`.
        measure: "gfre" or "gfrd".
        solver: as for `fit_global_maps`.
        alphas: as for `fit_global_maps`.
        columns: as for `fit_global_maps`.

    Returns:
        [n_names, n_names] float64 on the CPU, sources in rows, in the order of the widths or of `columns`.

    Raises:
        InputError: as for `fit_global_maps`, or the measure is not a global one.
    """
    _check_global(measure)
    return fit_global_maps(statistics, solver, alphas, columns).errors(measure)


def _sources(scaled: Scaled, method: Method) -> list[Source]:
    if method == "gram":
        return [GramSource(scaled.parts, columns) for columns in scaled.columns.values()]
    squares = scaled.parts.square().sum(-2)
    return [RowSource(partial(reduced_factors, scaled.parts, squares, each)) for each in scaled.columns.values()]


def _widths(scaled: Scaled) -> list[int]:
    return [columns.stop - columns.start for columns in scaled.columns.values()]


def _check_global(measure: str) -> None:
    if measure not in ("gfre", "gfrd"):
        raise InputError(f"local errors need the rows themselves; statistics give gfre and gfrd, got {measure!r}")
