"""Errors and variance within and between chemical elements.

Features of an atom depend first of all on its element, so an error over all rows mixes two questions: how the mean
features of elements lie to each other, and what a model resolves within an element. Moments within elements follow from
those of all rows and the sums by element of `latentcmp.statistics.element_sums`, without another pass over the rows.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError

LEAST_GROUPS = 8
"""Groups an element needs for errors of its own: fewer leave it out of the training rows of some folds."""
OTHERS = "others"
EQUAL = 1e-14  # of the squares about the pivot: a smaller variance is rounding


class ElementError(NamedTuple):
    """The error of the rows of one element, or of all rare elements together.

    Attributes:
        element: chemical symbol, or "others".
        n_atoms: number of rows.
        n_groups: number of groups with these rows.
        over_total: sqrt(mean e^2), in units of the spread of the target over all elements.
        over_own: sqrt(sum e^2 / sum y^2), in units of the target's distances from the training mean over these rows;
            NaN where these distances and the errors are 0.
    """

    element: str
    n_atoms: int
    n_groups: int
    over_total: float
    over_own: float


def element_means(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the mean row of each element, from the training rows.

    Args:
        sums: sums [E, D] of the training rows of each element.
        counts: numbers [E] of these rows.

    Returns:
        Means [E, D] about the pivot of the sums; an element without rows has the mean of all rows.

    Raises:
        InputError: shapes do not fit, or there are no rows.
    """
    _check_table(sums, counts)
    n_rows = counts.sum()
    if not n_rows:
        raise InputError("element means need at least 1 row, got none")
    means: Tensor = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], sums.sum(0) / n_rows)
    return means


def within_element_gram(gram: Tensor, sums: Tensor, counts: Tensor, means: Tensor) -> Tensor:
    """Return the Gram matrix of rows about the mean of their element.

    With the Gram matrix G of the rows, their sums S and numbers N by element and the means M it is
    G - M'S - S'M + M' diag(N) M, the sum over rows of (x - m_e)(x - m_e)'. The means come from training rows, also for
    the Gram matrix of held-out rows. All arguments are about one pivot, and about the same rows: where rare elements
    are left out, they are left out of the Gram matrix too. A pivot near the rows keeps more digits.

    Args:
        gram: G [D, D], summed over the parts asked for.
        sums: S [E, D], summed over the same parts.
        counts: N [E], summed over the same parts.
        means: M [E, D], as `element_means` returns it.

    Returns:
        The Gram matrix [D, D], float64.

    Raises:
        InputError: shapes do not fit.
    """
    _check_table(sums, counts)
    columns = sums.shape[1]
    if gram.shape != (columns, columns) or means.shape != sums.shape:
        raise InputError(
            f"sums {tuple(sums.shape)} need a Gram matrix {(columns, columns)} and means {tuple(sums.shape)}, got "
            f"{tuple(gram.shape)} and {tuple(means.shape)}"
        )
    means, sums = means.double(), sums.double()
    cross = means.T @ (sums - 0.5 * counts[:, None] * means)
    return gram.double() - (cross + cross.T)


def share_between_elements(squares: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
    """Return the share of the variance of a matrix that lies between elements.

    It is the variance of the element means over the rows divided by that of the rows: 0 where all elements have the
    same mean, 1 where the rows of an element are equal.

    Args:
        squares: sum of the squares of all entries, the trace of the Gram matrix; a scalar tensor.
        sums: sums [E, D] of the rows of each element, about the pivot of the Gram matrix.
        counts: numbers [E] of these rows.

    Returns:
        The share in [0, 1], a float64 scalar.

    Raises:
        InputError: shapes do not fit, there are no rows, or the rows are equal or not finite.
    """
    means = element_means(sums.double(), counts)
    mean = sums.double().sum(0) / counts.sum()
    total = squares.double() - counts.sum() * mean.square().sum()
    if not total > EQUAL * squares:
        raise InputError(
            f"the {int(counts.sum())} rows are equal or not finite, so no share of their variance is defined; "
            "leave the matrix out"
        )
    between: Tensor = (counts[:, None] * (means - mean).square()).sum()
    return (between / total).clamp(max=1.0)


def elements_with_groups(numbers: np.ndarray, groups: np.ndarray, least_groups: int = LEAST_GROUPS) -> np.ndarray:
    """Return the atomic numbers, sorted, of the elements in at least some number of groups.

    Args:
        numbers: atomic number of each row [n].
        groups: group of each row [n], integers or strings; a split keeps the rows of a group together.
        least_groups: least number of groups.
    """
    elements, counts = np.unique(_distinct_pairs(numbers, groups)[0], return_counts=True)
    return elements[counts >= least_groups]


def element_resolved(
    squared_errors: Tensor,
    squared_spread: Tensor,
    numbers: np.ndarray,
    groups: np.ndarray,
    least_groups: int = LEAST_GROUPS,
) -> list[ElementError]:
    """Return the errors of test rows by element, in the order of atomic numbers.

    An error over the total spread is small for an element that the target hardly resolves; one over the element's own
    distances from the training mean is not. Elements in few groups share a row "others", which comes last: their errors
    are those of single structures.

    Args:
        squared_errors: squared error e^2 of each row [n], in units of the target's total spread.
        squared_spread: squared distance y^2 of each target row [n] from the training mean, in the same unit.
        numbers: atomic number of each row [n].
        groups: group of each row [n], integers or strings.
        least_groups: least number of groups of an element with a row of its own.

    Raises:
        InputError: lengths differ.
    """
    shapes = {tuple(values.shape) for values in (squared_errors, squared_spread, numbers, groups)}
    if shapes != {(len(numbers),)}:
        raise InputError(f"errors, spread, numbers and groups must be [n] for the same n rows, got shapes {shapes}")
    from ase.data import chemical_symbols  # comes with the extra `cli`

    errors, spread = (values.detach().double().cpu().numpy() for values in (squared_errors, squared_spread))
    frequent = elements_with_groups(numbers, groups, least_groups)
    chosen = {chemical_symbols[number]: numbers == number for number in frequent}
    chosen[OTHERS] = ~np.isin(numbers, frequent)
    return [
        _error_of(element, errors[rows], spread[rows], groups[rows]) for element, rows in chosen.items() if rows.any()
    ]


def _error_of(element: str, errors: np.ndarray, spread: np.ndarray, groups: np.ndarray) -> ElementError:
    with np.errstate(invalid="ignore", divide="ignore"):
        own = float(np.sqrt(errors.sum() / spread.sum()))
    return ElementError(element, len(errors), len(np.unique(groups)), float(np.sqrt(errors.mean())), own)


def _distinct_pairs(numbers: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of an element and a group that occur, each once."""
    names, group = np.unique(groups, return_inverse=True)
    pairs = np.unique(np.asarray(numbers, dtype=np.int64) * len(names) + group)
    return pairs // len(names), pairs % len(names)


def _check_table(sums: Tensor, counts: Tensor) -> None:
    if sums.dim() != 2 or counts.shape != sums.shape[:1]:
        raise InputError(
            f"sums must be [E, D] and counts [E] for the same E elements, got {tuple(sums.shape)} and "
            f"{tuple(counts.shape)}"
        )
