"""Rows of one kind (atoms, or structures) as measures take them: one split, or folds that test every row once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.settings import one_torch_thread
from latentcmp.measures.bootstrap import Owners
from latentcmp.measures.inputs import Rows, SampledMatrices
from latentcmp.measures.strength_search import FoldRules
from latentcmp.measures.within_elements import WithinElements, within_elements
from latentcmp.statistics.accumulator import RowAccumulator, RowLabels
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Columns, JointMoments
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.statistics.scaling import Scaling
from latentcmp.systems.group_folds import GroupFolds


class LevelRows(Protocol):
    """The rows of every matrix that measures are computed from.

    Attributes:
        owners: the structure and the group of each tested row that is held, fold after fold.
        n_train: training rows, of a fold on average.
        n_test: tested rows.
        n_folds: folds; one for a split into training and test rows.
        complete: whether all tested rows are held.
    """

    owners: Owners
    n_train: int
    n_test: int
    n_folds: int
    complete: bool

    @property
    def n_held_for_training(self) -> int:
        """Training rows that are held, in the smallest fold."""

    @property
    def widths(self) -> dict[str, int]:
        """{name: columns} of the matrices."""

    def moments(self) -> JointMoments:
        """Return the joint moments of all rows, computed when first called."""

    def similarity_moments(self) -> JointMoments:
        """Return moments whose training parts are the rows that similarities compare."""

    def fold(self, number: int) -> dict[str, Rows]:
        """Return the rows of a fold that are held, scaled on all its training rows."""

    def fold_test(self, number: int) -> dict[str, Tensor]:
        """Return the test rows of `fold`."""

    def tested(self) -> SampledMatrices:
        """Return the tested rows that are held, centred and scaled, fold after fold."""


@dataclass
class SplitRows:
    """`LevelRows` of one split."""

    rows: dict[str, Rows]
    owners: Owners
    get_moments: Callable[[], JointMoments]
    n_train: int
    n_test: int
    complete: bool
    n_folds: int = 1

    @property
    def widths(self) -> dict[str, int]:
        """As `LevelRows.widths`."""
        return {name: rows.width for name, rows in self.rows.items()}

    @property
    def n_held_for_training(self) -> int:
        """As `LevelRows.n_held_for_training`."""
        return len(next(iter(self.rows.values())).train)

    def moments(self) -> JointMoments:
        """As `LevelRows.moments`."""
        return self.get_moments()

    def similarity_moments(self) -> JointMoments:
        """As `LevelRows.similarity_moments`."""
        return self.get_moments()

    def fold(self, number: int) -> dict[str, Rows]:
        """As `LevelRows.fold`."""
        return self.rows

    def fold_test(self, number: int) -> dict[str, Tensor]:
        """As `LevelRows.fold_test`."""
        return {name: rows.test for name, rows in self.rows.items()}

    def tested(self) -> SampledMatrices:
        """As `LevelRows.tested`."""
        return SampledMatrices({name: rows.test for name, rows in self.rows.items()}, self.owners.groups)


class FoldedRows:
    """`LevelRows` of folds of groups.

    Args:
        widths: columns of the matrices that are compared, by name.
        values: {name: [m, D]}, the rows that are held, all of them or a sample, also of descriptors.
        labels: labels of the rows.
        structures: [m] name of the structure of each row.
        n_tested: number of the rows that are tested row by row, those with the smallest keys.
        folds: the fold of each block.
        get_moments: returns the joint moments of all rows, block by block.
        n_rows: number of all rows.
        columns: {name: (matrix, n)} for the first n columns of matrices.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        values: Mapping[str, Tensor],
        labels: RowLabels,
        structures: Sequence[str],
        n_tested: int,
        folds: GroupFolds,
        get_moments: Callable[[], JointMoments],
        n_rows: int,
        columns: Columns | None = None,
    ) -> None:
        self.values, self.folds, self.columns = values, folds, columns
        self._labels, self._structures, self._get_moments = labels, structures, get_moments
        self._widths = {name: n for name, (_, n) in columns.items()} if columns else dict(widths)
        self.fold_of_row = np.array(folds.fold_of_block)[labels.part]
        self.n_folds = len(folds.blocks)
        tested = first_by_key(labels.key, n_tested)
        self._test = [np.flatnonzero(tested & (self.fold_of_row == fold)) for fold in range(self.n_folds)]
        self._train = [np.flatnonzero(self.fold_of_row != fold) for fold in range(self.n_folds)]
        order = np.concatenate(self._test)
        self.order = order
        self.owners = Owners([structures[row] for row in order], groups=labels.group[order])
        self.n_test, self.complete = n_rows, len(order) == n_rows
        self.n_train = round(n_rows * (1 - 1 / self.n_folds))

    @property
    def widths(self) -> dict[str, int]:
        """As `LevelRows.widths`."""
        return self._widths

    @property
    def n_held_for_training(self) -> int:
        """As `LevelRows.n_held_for_training`."""
        return min(map(len, self._train))

    def moments(self) -> JointMoments:
        """As `LevelRows.moments`."""
        return self._get_moments()

    @property
    def elements(self) -> np.ndarray:
        """Atomic number of each row that is held [m]; 0 where rows are no atoms."""
        return self._labels.element

    def within_elements(self, rules: FoldRules) -> WithinElements | None:
        """Return the global errors within elements, of the rows that are held; None where rows have no elements."""
        if not self.elements.any():
            return None
        rows = {name: self.values[name] for name in self.widths}
        return within_elements(rows, self.fold_of_row, self.elements, self._labels.group, rules)

    def with_source(self, name: str, source: Tensor, targets: Sequence[str], n_tested: int | None) -> "FoldedRows":
        """Return the rows that are held of a source [m, D] and of some matrices, in the same folds."""
        values = {name: source, **{target: self.values[target] for target in targets}}
        part = torch.from_numpy(self.fold_of_row)
        labels = replace(self._labels, part=self.fold_of_row)
        folds = GroupFolds(tuple(range(self.n_folds)))
        moments = cache(lambda: JointStatistics.of(values, part, "gram", self.n_folds).finish())
        n = len(self.fold_of_row)
        return FoldedRows(_widths(values), values, labels, self._structures, n_tested or n, folds, moments, n)

    def similarity_moments(self) -> JointMoments:
        """As `LevelRows.similarity_moments`: all rows, as the first training fold."""
        return self.moments().joined([range(self.folds.n_blocks), [], []])

    def fold(self, number: int) -> dict[str, Rows]:
        """As `LevelRows.fold`."""
        train, test = (self._scaled(number, rows) for rows in (self._train[number], self._test[number]))
        return {name: Rows(train[name], test[name]) for name in self.widths}

    def fold_test(self, number: int) -> dict[str, Tensor]:
        """As `LevelRows.fold_test`."""
        return self._scaled(number, self._test[number])

    def tested(self) -> SampledMatrices:
        """As `LevelRows.tested`."""
        rows = {name: self._rows(name, self.order) for name in self.widths}
        with one_torch_thread():  # more would change the last bits
            for name, values in rows.items():
                Scaling.fit_(values, name)
        return SampledMatrices(rows, self.owners.groups)

    @cached_property
    def _scalings(self) -> list[dict[str, Scaling]]:
        with one_torch_thread():  # more would change the last bits
            moments = PartMoments.of(self.moments(), self.columns)
            return [moments.scalings(training) for training in self._training_blocks()]

    def _scaled(self, number: int, rows: np.ndarray) -> dict[str, Tensor]:
        scalings = self._scalings[number]
        return {name: scalings[name].apply_(self._rows(name, rows)) for name in self.widths}

    def _training_blocks(self) -> list[list[int]]:
        of_block = self.folds.fold_of_block
        return [[b for b in range(len(of_block)) if of_block[b] != fold] for fold in range(self.n_folds)]

    def _rows(self, name: str, rows: np.ndarray) -> Tensor:
        """Copies of rows, in float64."""
        matrix, width = self.columns[name] if self.columns else (name, self.widths[name])
        values = self.values[matrix]
        return values[torch.from_numpy(rows).to(values.device), :width].double()


def accumulated(
    accumulator: RowAccumulator,
    moments: JointMoments,
    folds: GroupFolds | None,
    columns: Columns | None = None,
    structure: Callable[[int], str] = str,
) -> LevelRows:
    """Rows that were sampled, and the moments of all rows.

    Args:
        accumulator: the accumulated rows.
        moments: those of all rows.
        folds: the fold of each block; None for a split.
        columns: the leading columns of matrices to compare; None for the matrices.
        structure: names the structure of a number.
    """
    if folds is None:
        return _of_split(accumulator, moments, columns, structure)
    sample = accumulator.sampled("all")
    structures = [structure(number) for number in sample.labels["owner"].tolist()]
    return FoldedRows(
        accumulator.widths,
        sample.values,
        RowLabels(key=sample.keys, **sample.labels),
        structures,
        accumulator.sizes.test,
        folds,
        lambda: moments,
        accumulator.n_rows["all"],
        columns,
    )


def first_by_key(keys: np.ndarray, n: int) -> np.ndarray:
    """Return the mask of the n rows with the smallest `row_keys` [m, 3]; all where there are fewer."""
    mask = np.zeros(len(keys), dtype=bool)
    mask[np.lexsort(keys.T[::-1])[:n]] = True
    return mask


def _of_split(
    accumulator: RowAccumulator, moments: JointMoments, columns: Columns | None, structure: Callable[[int], str]
) -> SplitRows:
    with one_torch_thread():  # more would change the last bits
        scalings = moments.scaled(columns).scalings
    train, test = accumulator.sampled("train"), accumulator.sampled("test")
    rows = {}
    for name, scaling in scalings.items():
        matrix, width = columns[name] if columns else (name, accumulator.widths[name])
        rows[name] = Rows(*(scaling(kept.values[matrix][:, :width].double()) for kept in (train, test)))
    owners = Owners([structure(number) for number in test.labels["owner"].tolist()])
    counts = accumulator.n_rows
    return SplitRows(rows, owners, lambda: moments, counts["train"], counts["test"], test.complete)


def _widths(values: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: of_matrix.shape[1] for name, of_matrix in values.items()}
