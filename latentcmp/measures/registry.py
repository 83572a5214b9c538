"""The table of measures: one row makes a measure available to comparisons, files, tables and figures."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.distance_correlation import distance_correlations
from latentcmp.measures.fold_maps import fit_folds
from latentcmp.measures.global_errors import fit_global_maps
from latentcmp.measures.inputs import Rows, SampledMatrices
from latentcmp.measures.measure import (
    DIMENSION,
    DIRECTIONS,
    DISTANCE,
    ERROR,
    IMBALANCE,
    OVERLAP,
    ErrorName,
    FitMaps,
    FittedMaps,
    Measure,
    MeasureOptions,
    OfRows,
    OfStatistics,
)
from latentcmp.measures.neighbour_dimension import intrinsic_dimensions
from latentcmp.measures.neighbour_imbalance import information_imbalances
from latentcmp.measures.neighbour_overlap import cknnas, mutual_knns
from latentcmp.measures.pairs import folded_local_errors, pointwise_errors
from latentcmp.measures.similarity import cca, effective_rank, linear_cka, procrustes_distance, svcca
from latentcmp.measures.strength_search import FoldRules
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import leave_one_out

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
        refitted=name == "gfre",
        parallel=not fit,
    )


def _fit_global_maps(moments: JointMoments, options: MeasureOptions) -> Iterable[FittedMaps]:
    if options.folds is None:
        return [fit_global_maps(moments, options.solver, options.alphas, options.columns)]
    rules = FoldRules.of(options.solver, options.alphas, moments.parts.device)
    folds = options.folds.blocks
    parts = PartMoments.of(moments, options.columns).joined(folds)
    return fit_folds(parts, leave_one_out(len(folds)), rules, options.sources)


def _row_errors(name: ErrorName, source: Rows, targets: Sequence[Rows], options: MeasureOptions) -> Sequence[Tensor]:
    k, solver, alphas = options.n_local_points, options.solver, options.alphas
    if options.folds is not None:
        return folded_local_errors(source, targets, k, solver, options.local_alphas)
    return pointwise_errors(source, targets, name, n_local_points=k, solver=solver, alphas=alphas)


def _plain(function: Callable[..., Tensor], **fixed: Any) -> OfStatistics:
    """A function of moments that takes none of the shared options."""
    return lambda moments, _: function(moments, **fixed)


def _of_neighbours(function: Callable[[SampledMatrices], Tensor]) -> OfRows:
    """A function of sampled matrices and the groups of their rows that takes none of the shared options."""
    return lambda sample, _: function(sample)


def _of_values(function: Callable[..., Tensor], **fixed: Any) -> OfRows:
    """A function of matrices {name: [n, D]} for which groups of rows make no difference."""
    return lambda sample, _: function(sample.values, **fixed)


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
            rows=_of_values(distance_correlations),
        ),
        Measure(
            "distance_correlation_unbiased",
            "Unbiased distance correlation",
            "squared, U-statistic of test rows",
            rows=_of_values(distance_correlations, unbiased=True),
        ),
        Measure(
            "mutual_knn",
            "Mutual kNN",
            "common nearest test rows, 10 of other groups",
            quantity=OVERLAP,
            rows=_of_neighbours(mutual_knns),
        ),
        Measure("cknna", "CKNNA", "alignment of kernels between 10 nearest test rows", rows=_of_neighbours(cknnas)),
        Measure(
            "information_imbalance",
            "Information imbalance",
            "rank in the target of the nearest test row in the source",
            directed=True,
            quantity=IMBALANCE,
            rows=_of_neighbours(information_imbalances),
        ),
        Measure(
            "intrinsic_dimension",
            "Intrinsic dimension",
            "TwoNN estimate, one test row a group",
            kind="single",
            quantity=DIMENSION,
            rows=_of_neighbours(intrinsic_dimensions),
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
