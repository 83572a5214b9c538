"""Global errors within elements: features about the mean of their element over the training rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp.measures.elements import (
    element_means,
    elements_with_groups,
    share_between_elements,
    within_element_gram,
)
from latentcmp.measures.fold_maps import fit_folds
from latentcmp.measures.strength_search import FoldRules
from latentcmp.statistics.element_sums import ElementSums, ElementTable
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.part_moments import ALL_COLUMNS, PartMoments, Parts
from latentcmp.systems.group_folds import leave_one_out


class WithinElements(NamedTuple):
    """Errors within elements.

    Attributes:
        errors: [n, n] GFRE in units of the spread within elements.
        shares: share of the variance of each matrix that lies between elements.
        elements: atomic numbers of the elements, those in at least eight groups.
        n_rows: number of their rows.
    """

    errors: Tensor
    shares: dict[str, float]
    elements: list[int]
    n_rows: int


@dataclass(frozen=True)
class ElementMoments(PartMoments):
    """`PartMoments` about a mean of its own for each element: a mean is a table [n_elements, D].

    Attributes:
        table: numbers and sums of the rows of each element in each part, about the pivot.
    """

    table: ElementTable

    def mean(self, parts: Parts) -> Tensor:
        """Return the means of the elements over some parts, less the pivot: [n_elements, D]."""
        return element_means(*self._sums(parts))

    def sums_about(self, parts: Parts, mean: Tensor) -> Tensor:
        """Return the sum of the rows of some parts about the means of their elements: [D]."""
        sums, counts = self._sums(parts)
        total: Tensor = sums.sum(0) - (counts[:, None] * mean).sum(0)
        return total

    def gram_about(self, parts: Parts, mean: Tensor, rows: slice = ALL_COLUMNS) -> Tensor:
        """Return rows of the Gram matrix of some parts about the means of the elements: [rows, D]."""
        return within_element_gram(self._gram(parts, ALL_COLUMNS), *self._sums(parts), mean)[rows]

    def squares_about(self, parts: Parts, mean: Tensor) -> Tensor:
        """Return the diagonal of the Gram matrix of some parts about the means of the elements: [D]."""
        sums, counts = self._sums(parts)
        diagonal = self.grams.diagonal(dim1=1, dim2=2)[list(parts)].sum(0)
        squares: Tensor = diagonal - (mean * (2 * sums - counts[:, None] * mean)).sum(0)
        return squares

    def _centre(self, mean: Tensor) -> Tensor:
        return self.pivot + mean.mean(0)

    def _sums(self, parts: Parts) -> tuple[Tensor, Tensor]:
        return self.table.sums[list(parts)].sum(0), self.table.counts[list(parts)].sum(0)


def within_elements(
    rows: Mapping[str, Tensor], fold: np.ndarray, numbers: np.ndarray, groups: np.ndarray, rules: FoldRules
) -> WithinElements | None:
    """Return the errors within the elements in at least eight groups; None where there are no such elements.

    Args:
        rows: {name: [m, D]}.
        fold: [m] fold of each row.
        numbers: [m] atomic number of each row.
        groups: [m] group of each row.
        rules: the solver and the grid of strengths.
    """
    elements = elements_with_groups(numbers, groups)
    chosen = np.flatnonzero(np.isin(numbers, elements))
    n_folds = int(fold.max()) + 1
    if not len(chosen) or len(set(fold[chosen].tolist())) < n_folds:
        return None
    moments = _moments(rows, chosen, fold, numbers, n_folds)
    squares = torch.stack([maps.squares() for maps in fit_folds(moments, leave_one_out(n_folds), rules)]).sum(0)
    return WithinElements((squares / len(chosen)).sqrt(), _shares(moments), elements.tolist(), len(chosen))


def _moments(
    rows: Mapping[str, Tensor], chosen: np.ndarray, fold: np.ndarray, numbers: np.ndarray, n_folds: int
) -> ElementMoments:
    device = next(iter(rows.values())).device
    features = {name: values[torch.from_numpy(chosen).to(device)] for name, values in rows.items()}
    part = torch.from_numpy(fold[chosen])
    joint = PartMoments.of(JointStatistics.of(features, part, "gram", n_folds).compute())
    sums = ElementSums({name: values.shape[1] for name, values in rows.items()}, n_folds, device, pivot=joint.pivot)
    sums.update(features, part, torch.from_numpy(numbers[chosen]))
    return ElementMoments(**vars(joint), table=sums.compute())


def _shares(moments: ElementMoments) -> dict[str, float]:
    everything = range(len(moments.counts))
    sums, counts = moments._sums(everything)
    squares = moments.grams.diagonal(dim1=1, dim2=2).sum(0)
    return {
        name: float(share_between_elements(squares[columns].sum(), sums[:, columns], counts))
        for name, columns in moments.columns.items()
    }
