"""The table of measures: one row makes a measure available to comparisons, files, tables and figures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.distance_correlation import distance_correlations
from latentcmp.measures.global_errors import GlobalMaps, fit_global_maps
from latentcmp.measures.inputs import Rows
from latentcmp.measures.measure import (
    DIRECTIONS,
    DISTANCE,
    ERROR,
    ErrorName,
    FitMaps,
    Measure,
    MeasureOptions,
    OfRows,
    OfStatistics,
)
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.measures.similarity import cca, effective_rank, linear_cka, procrustes_distance, svcca
from latentcmp.statistics.joint_moments import JointMoments

DEFAULT_MEASURES = ("gfre", "lfre")


def register(measure: Measure) -> None:
    """Add a measure to `MEASURES`. Raises InputError where the name is taken."""
    if MEASURES.setdefault(measure.name, measure) is not measure:
        raise InputError(f"there is a measure {measure.name!r} already; choose another name")


def check_measures(measures: Sequence[str]) -> None:
    """Raise InputError unless `measures` is a list of at least one registered name."""
    names = [measures] if isinstance(measures, str) else list(measures)
    if isinstance(measures, str) or not names or not MEASURES.keys() >= set(names):
        given = ", ".join(map(repr, names)) or "none"
        raise InputError(f"measures must be a list of some of {', '.join(MEASURES)}, got {given}")


def _error(name: ErrorName, description: str, fit: FitMaps | None = None) -> Measure:
    """A directed error: of fitted maps, else of maps of single rows, which share their own work among the cores."""
    return Measure(
        name,
        name.upper(),
        description,
        directed=True,
        quantity=ERROR,
        row_errors=None if fit else partial(_row_errors, name),
        fit=fit,
        parallel=not fit,
    )


def _fit_global_maps(moments: JointMoments, options: MeasureOptions) -> GlobalMaps:
    return fit_global_maps(moments, options.solver, options.alphas, options.columns)


def _row_errors(name: ErrorName, source: Rows, targets: Sequence[Rows], options: MeasureOptions) -> Sequence[Tensor]:
    k, solver, alphas = options.n_local_points, options.solver, options.alphas
    return pointwise_errors(source, targets, name, n_local_points=k, solver=solver, alphas=alphas)


def _plain(function: Callable[..., Tensor], **fixed: Any) -> OfStatistics:
    """A function of moments that takes none of the shared options."""
    return lambda moments, _: function(moments, **fixed)


def _of_test_rows(function: Callable[[Mapping[str, Tensor]], Tensor]) -> OfRows:
    """A function of matrices {name: [n, D]}, called with the scaled test rows."""
    return lambda rows, _: function({name: of_matrix.test for name, of_matrix in rows.items()})


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        _error("gfre", "one linear map", _fit_global_maps),
        _error("gfrd", "linear against orthogonal map", _fit_global_maps),
        _error("lfre", "a map for every neighbourhood"),
        Measure("linear_cka", "Linear CKA", "alignment of linear kernels", statistics=_plain(linear_cka)),
        Measure(
            "linear_cka_debiased",
            "Debiased CKA",
            "unbiased alignment of linear kernels",
            statistics=_plain(linear_cka, debiased=True),
        ),
        Measure(
            "procrustes",
            "Procrustes distance",
            "residual of the best orthogonal map",
            quantity=DISTANCE,
            statistics=_plain(procrustes_distance),
        ),
        Measure("cca", "CCA", "mean canonical correlation", statistics=_plain(cca)),
        Measure("svcca", "SVCCA", "mean canonical correlation of leading directions", statistics=_plain(svcca)),
        Measure(
            "distance_correlation",
            "Distance correlation",
            "dependence between distances of test rows",
            rows=_of_test_rows(distance_correlations),
        ),
        Measure(
            "effective_rank",
            "Effective rank",
            "exponential of the entropy of the covariance spectrum",
            kind="single",
            quantity=DIRECTIONS,
            statistics=_plain(effective_rank),
        ),
        Measure(
            "participation_ratio",
            "Participation ratio",
            "inverse participation of the covariance spectrum",
            kind="single",
            quantity=DIRECTIONS,
            statistics=_plain(effective_rank, kind="participation"),
        ),
    )
}
