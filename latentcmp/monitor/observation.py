"""Observation of one layer in one probe: statistics on the device, and the record computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.hooks.layout import Reduce
from latentcmp.measures.fold_maps import FoldMaps
from latentcmp.measures.inputs import Rows, root_mean_square
from latentcmp.measures.pairs import folded_local_errors
from latentcmp.measures.similarity import effective_rank, linear_cka
from latentcmp.measures.strength_search import LEAST_LOCAL_DRIFT, default_strengths
from latentcmp.monitor.layer import Layer, as_rows
from latentcmp.monitor.maps import drift_maps
from latentcmp.monitor.ranks import Ranks
from latentcmp.monitor.writers import Record
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments, Method

REFERENCE, NOW = "reference", "now"
DIRECTIONS = {"to_reference": (NOW, REFERENCE), "from_reference": (REFERENCE, NOW)}
MEASURES = ("gfre_to_reference", "gfre_from_reference", "linear_cka", "effective_rank")
LOCAL_MEASURES = ("lfre_to_reference", "lfre_from_reference")


@dataclass(eq=False)
class Observation:
    """Statistics of one layer in one probe on the device, fold by fold, and the rows for resolved or local errors."""

    statistics: JointStatistics
    rows: Tensor | None = None


def observe(layer: Layer, values: Sequence[Tensor], reduce: Reduce, method: Method, local: bool) -> Observation:
    """Return statistics of the reference and the present features, without host synchronisation.

    Raises:
        InputError: number of rows, width or device of the activations differ from those of the reference.
    """
    rows = as_rows(values, layer.point, reduce)
    if len(rows) != len(layer.reference) or rows.device != layer.reference.device:
        raise InputError(
            f"layer {layer.point.name!r} gives {len(rows)} rows on {rows.device}, but gave {len(layer.reference)} on "
            f"{layer.reference.device} when the monitor was made"
        )
    if rows.shape[1] >= layer.n_train:
        raise InputError(
            f"layer {layer.point.name!r} has {rows.shape[1]} columns now, too many for {layer.n_train} training rows"
        )
    both = {REFERENCE: layer.reference, NOW: rows}
    statistics = JointStatistics.of(both, layer.own_fold, method, layer.n_folds)
    return Observation(statistics, rows if local or layer.marks else None)


def measure(layer: Layer, seen: Observation, ranks: Ranks, local: bool) -> Record:
    """Return the record of one layer in one probe. Synchronises with the device.

    All ranks of a group have the same statistics, hence the same record or the same error.

    Raises:
        InputError: a matrix is constant over the training rows of a fold, or a value is not finite.
    """
    if ranks.group is not None:
        seen.statistics.all_reduce(ranks.group)
    moments = seen.statistics.compute()
    squares, squares_of_rows = _global(layer, seen, moments)
    names, gfre = list(moments.widths), (squares / layer.shape[0]).sqrt()
    record: Record = {
        f"gfre_{name}": float(gfre[names.index(source), names.index(target)])
        for name, (source, target) in DIRECTIONS.items()
    }
    whole = moments.joined([range(layer.n_folds), [], []])  # similarities are of the first two parts
    record["linear_cka"] = float(linear_cka(whole)[0, 1])
    record["effective_rank"] = float(effective_rank(whole)[names.index(NOW)])
    if local:
        record |= _local(layer, seen, ranks)
    return record | _resolved(layer, squares_of_rows, ranks)


def _global(layer: Layer, seen: Observation, moments: JointMoments) -> tuple[Tensor, dict[str, Tensor]]:
    """Sums [2, 2] of the squared errors of all rows, and for resolved errors those [n] of the rows of this process."""
    squares = torch.zeros(2, 2, dtype=torch.float64)
    directions = DIRECTIONS if layer.marks else {}
    of_rows = {name: layer.reference.new_zeros(len(layer.rows), dtype=torch.float64) for name in directions}
    for number, maps in enumerate(drift_maps(moments)):
        squares += maps.squares()
        tested = (layer.own_fold == number).nonzero()[:, 0].to(layer.reference.device)
        for name in directions:
            of_rows[name][tested] = _row_errors(layer, seen, maps, tested, name).square()
    return squares, of_rows


def _row_errors(layer: Layer, seen: Observation, maps: FoldMaps, tested: Tensor, direction: str) -> Tensor:
    """Errors of the test rows of a fold."""
    assert seen.rows is not None
    source, target = DIRECTIONS[direction]
    values = {REFERENCE: layer.reference[tested].double(), NOW: seen.rows[tested].double()}
    rows = {name: scaling(values[name]) for name, scaling in maps.scaled.scalings.items()}
    return maps.row_errors(source, rows)[target]


def _local(layer: Layer, seen: Observation, ranks: Ranks) -> dict[str, float]:
    """LFRE in both directions. Neighbours may be rows of any rank, so every rank takes all rows of the probe."""
    assert seen.rows is not None
    values = {name: ranks.whole(layer.positions, own) for name, own in ((REFERENCE, layer.reference), (NOW, seen.rows))}
    strengths = default_strengths("ridge", LEAST_LOCAL_DRIFT)
    fold = torch.from_numpy(layer.fold).to(layer.reference.device)
    errors: dict[str, list[Tensor]] = {direction: [] for direction in DIRECTIONS}
    for number in range(layer.n_folds):
        train, test = (fold != number).nonzero()[:, 0], (fold == number).nonzero()[:, 0]
        rows = {name: Rows.split(of_all, train, test, name) for name, of_all in values.items()}
        for direction, (source, target) in DIRECTIONS.items():
            errors[direction] += folded_local_errors(rows[source], [rows[target]], None, "ridge", strengths)
    return {f"lfre_{direction}": float(root_mean_square(torch.cat(of_folds))) for direction, of_folds in errors.items()}


def _resolved(layer: Layer, squares: dict[str, Tensor], ranks: Ranks) -> Record:
    """GFRE of the rows of each element or structure in all folds, in units of the spread of the whole layer."""
    record: Record = {kind: {name: {} for name in marks.names} for kind, marks in layer.marks.items()}
    for direction, of_rows in squares.items():
        for kind, marks in layer.marks.items():
            sums = of_rows.new_zeros(len(marks.names)).index_add_(0, marks.codes, of_rows)
            means = (ranks.sum(sums).cpu() / marks.counts).sqrt().tolist()
            for name, value in zip(marks.names, means, strict=True):
                record[kind][name][f"gfre_{direction}"] = value
    return record


def empty_record(reason: str, local: bool) -> Record:
    """Return the record of a layer that could not be measured: NaN for every measure, and the reason."""
    return dict.fromkeys((*MEASURES, *(LOCAL_MEASURES if local else ())), float("nan")) | {"reason": reason}
