"""Observation of one layer in one probe: statistics on the device, and the record computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.hooks.layout import Reduce
from latentcmp.measures.global_errors import GlobalMaps, fit_global_maps
from latentcmp.measures.inputs import Rows, root_mean_square
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.measures.similarity import effective_rank, linear_cka
from latentcmp.monitor.layer import Layer, as_rows
from latentcmp.monitor.ranks import Ranks
from latentcmp.monitor.writers import Record
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Method
from latentcmp.systems.folds import RowPart

REFERENCE, NOW = "reference", "now"
DIRECTIONS = {"to_reference": (NOW, REFERENCE), "from_reference": (REFERENCE, NOW)}
MEASURES = ("gfre_to_reference", "gfre_from_reference", "linear_cka", "effective_rank")
LOCAL_MEASURES = ("lfre_to_reference", "lfre_from_reference")


@dataclass(eq=False)
class Observation:
    """Statistics of one layer in one probe on the device, and the rows that resolved or local errors need."""

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
    statistics = JointStatistics({REFERENCE: layer.shape[1], NOW: rows.shape[1]}, method, rows.device)
    statistics.update({REFERENCE: layer.reference, NOW: rows}, layer.part)
    statistics.compact()  # releases the blocks that a CPU collects rows in
    kept = rows if local else layer.of_test(rows) if layer.marks else None
    return Observation(statistics, kept)


def measure(layer: Layer, seen: Observation, ranks: Ranks, local: bool) -> Record:
    """Return the record of one layer in one probe. Synchronises with the device.

    All ranks of a group have the same statistics, hence the same record or the same error.

    Raises:
        InputError: a part has too few rows, a matrix is constant, or a value is not finite.
    """
    if ranks.group is not None:
        seen.statistics.all_reduce(ranks.group)
    maps = fit_global_maps(seen.statistics)
    gfre = maps.errors()
    if not bool(torch.isfinite(gfre).all()):
        raise InputError(f"layer {layer.point.name!r} held a NaN or an infinity in a test row")
    names = list(seen.statistics.widths)
    record: Record = {
        f"gfre_{name}": float(gfre[names.index(source), names.index(target)])
        for name, (source, target) in DIRECTIONS.items()
    }
    record["linear_cka"] = float(linear_cka(seen.statistics)[0, 1])
    record["effective_rank"] = float(effective_rank(seen.statistics)[names.index(NOW)])
    if local:
        record |= _local(layer, seen, ranks)
    return record | (_resolved(layer, seen, maps, ranks, local) if layer.marks else {})


def _local(layer: Layer, seen: Observation, ranks: Ranks) -> dict[str, float]:
    """LFRE in both directions. Neighbours may be rows of any rank, so every rank takes all rows of the probe."""
    assert seen.rows is not None
    part, reference, now = (ranks.whole(layer.positions, own) for own in (layer.part, layer.reference, seen.rows))
    train, test = (part != RowPart.TEST).nonzero()[:, 0], (part == RowPart.TEST).nonzero()[:, 0]
    rows = {name: Rows.split(values, train, test, name) for name, values in ((REFERENCE, reference), (NOW, now))}
    return {
        f"lfre_{name}": float(root_mean_square(pointwise_errors(rows[source], [rows[target]], "lfre")[0]))
        for name, (source, target) in DIRECTIONS.items()
    }


def _resolved(layer: Layer, seen: Observation, maps: GlobalMaps, ranks: Ranks, local: bool) -> Record:
    """GFRE over the test rows of each element or structure, in units of the spread of the whole layer."""
    assert seen.rows is not None
    kept = {REFERENCE: layer.of_test(layer.reference), NOW: layer.of_test(seen.rows) if local else seen.rows}
    rows = {name: maps.scalings[name](values.double()) for name, values in kept.items()}
    found: Record = {kind: {name: {} for name in marks.names} for kind, marks in layer.marks.items()}
    for direction, (source, target) in DIRECTIONS.items():
        errors = maps.row_errors(source, rows)[target]
        for kind, marks in layer.marks.items():
            sums = errors.new_zeros(len(marks.names)).index_add_(0, marks.codes, errors.square())
            means = (ranks.sum(sums).cpu() / marks.counts).sqrt().tolist()
            for name, value in zip(marks.names, means, strict=True):
                found[kind][name][f"gfre_{direction}"] = value
    return found


def empty_record(reason: str, local: bool) -> Record:
    """Return the record of a layer that could not be measured: NaN for every measure, and the reason."""
    return dict.fromkeys((*MEASURES, *(LOCAL_MEASURES if local else ())), float("nan")) | {"reason": reason}
