"""Errors of reconstruction from sources that no model has learnt: permuted rows, elements, random weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp.comparison.level_rows import FoldedRows
from latentcmp.measures import baseline_rows as names
from latentcmp.measures.baseline_rows import (
    COMPOSITION_COLUMNS,
    COORDINATION_COLUMNS,
    RANDOM_SEEDS,
    BaselineRows,
    random_columns,
)
from latentcmp.measures.inputs import root_mean_square
from latentcmp.measures.measure import Measure, MeasureOptions

SOURCE = "(baseline)"
LOCAL_ROWS = 1000  # test rows of local errors of baselines
WEIGHT = 3.0  # of indicators of elements beside standardised columns


Sources = Mapping[str, Tensor]
"""A source of its own for each target: {target: [m, D]}, the same tensor where one serves all."""


class Baseline(NamedTuple):
    """Sources drawn once or several times; the error is the mean over the draws."""

    name: str
    draws: Sequence[Sources]


def baseline_errors(given: FoldedRows, measures: Sequence[Measure], options: MeasureOptions) -> dict[str, BaselineRows]:
    """Return the errors of every matrix reconstructed from each baseline, by measure.

    They are those of the rows that are held; local ones of 1000 test rows at most.
    """
    results = {measure.name: BaselineRows(tuple(given.widths)) for measure in measures}
    for baseline in _baselines(given):
        for measure in measures:
            draws = [_errors(given, sources, measure, options) for sources in baseline.draws]
            result = results[measure.name]
            result.values[baseline.name] = _means(given.widths, draws, root_mean_square)
            result.medians[baseline.name] = _means(given.widths, draws, torch.median)
    return results


def _means(
    targets: Iterable[str], draws: Sequence[Mapping[str, Tensor]], summary: Callable[[Tensor], Tensor]
) -> list[float]:
    """The mean over the draws of a summary of the row errors of each target; NaN for a target without a source."""
    return [
        float(np.mean([float(summary(errors[target])) for errors in draws])) if target in draws[0] else np.nan
        for target in targets
    ]


def _baselines(given: FoldedRows) -> Iterator[Baseline]:
    targets = {name: given.values[name].double() for name in given.widths}
    yield Baseline(names.PERMUTED, [_permuted(targets, given.fold_of_row)])
    described = {
        name: given.values[name].double()
        for name in (COMPOSITION_COLUMNS, COORDINATION_COLUMNS)
        if name in given.values
    }
    coordination = described.get(COORDINATION_COLUMNS)
    if given.elements.any():
        yield Baseline(names.WITHIN, [_permuted(targets, given.fold_of_row * 1000 + given.elements)])
        one_hot = torch.from_numpy(given.elements[:, None] == np.unique(given.elements)).double()
        yield from _described(one_hot, coordination, targets, (names.ELEMENT, names.COORDINATED))
    elif COMPOSITION_COLUMNS in described:
        composition = described[COMPOSITION_COLUMNS]
        composition = composition[:, composition.any(0)]
        both = (names.COMPOSITION, names.COMPOSITION_COORDINATED)
        yield from _described(composition, coordination, targets, both)
    random = [_random(given, seed) for seed in range(RANDOM_SEEDS)]
    if all(random):
        yield Baseline(names.RANDOM, random)


def _random(given: FoldedRows, seed: int) -> Sources:
    """The features of the architecture of each target with random weights, where it has them."""
    columns = {target: random_columns(target, seed) for target in given.widths}
    return {target: given.values[name].double() for target, name in columns.items() if name in given.values}


def _described(
    elements: Tensor, coordination: Tensor | None, targets: Mapping[str, Tensor], labels: tuple[str, str]
) -> Iterator[Baseline]:
    device = next(iter(targets.values())).device
    if elements.std(0).any():
        yield Baseline(labels[0], [dict.fromkeys(targets, elements.to(device))])
    if coordination is not None:
        spread = coordination.std(0, correction=0)
        standard = (coordination - coordination.mean(0)) / torch.where(spread > 0, spread, 1.0)
        source = torch.cat([WEIGHT * elements, standard.to(elements.device)], 1).to(device)
        yield Baseline(labels[1], [dict.fromkeys(targets, source)])


def _permuted(targets: Mapping[str, Tensor], keys: np.ndarray) -> dict[str, Tensor]:
    """Rows of each target in another order, among rows of one key: the same order for all targets."""
    rng, order = np.random.default_rng(0), np.empty(len(keys), dtype=np.int64)
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        order[rows] = rng.permutation(rows)
    return {name: rows[torch.from_numpy(order).to(rows.device)] for name, rows in targets.items()}


def _errors(given: FoldedRows, sources: Sources, measure: Measure, options: MeasureOptions) -> dict[str, Tensor]:
    """Row errors of each target with a source, those of one source together."""
    errors: dict[str, Tensor] = {}
    for source in {id(source): source for source in sources.values()}.values():
        targets = [name for name in given.widths if sources.get(name) is source]
        pooled = _errors_from(
            given.with_source(SOURCE, source, targets, None if measure.fit else LOCAL_ROWS), measure, options
        )
        errors.update(zip(targets, pooled, strict=True))
    return errors


def _errors_from(given: FoldedRows, measure: Measure, options: MeasureOptions) -> list[Tensor]:
    """Row errors of all other matrices from the baseline, fold after fold."""
    chosen = replace(options, sources=(SOURCE,), folds=given.folds, columns=None)
    targets = [name for name in given.widths if name != SOURCE]
    folds: list[list[Tensor]] = []
    if measure.fit:
        for number, maps in enumerate(measure.fit(given.moments(), chosen)):
            of_targets = maps.row_errors(SOURCE, given.fold_test(number), measure.name)
            folds.append([of_targets[name] for name in targets])
    else:
        assert measure.row_errors
        for number in range(given.n_folds):
            rows = given.fold(number)
            folds.append(list(measure.row_errors(rows[SOURCE], [rows[name] for name in targets], chosen)))
    return [torch.cat(of_target).cpu() for of_target in zip(*folds, strict=True)]
