"""Intrinsic dimension of a feature matrix, from the distances of the two nearest neighbours (TwoNN)."""

from typing import overload

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.matrices import Matrix, as_matrix, like
from latentcmp.measures.nearest import distances_to
from latentcmp.measures.neighbour_lists import Groups, neighbour_lists, sampled

DISCARDED = 0.1


@overload
def intrinsic_dimension(X: Tensor, *, groups: Groups | None = ...) -> Tensor: ...


@overload
def intrinsic_dimension(X: np.ndarray, *, groups: Groups | None = ...) -> np.float64: ...


def intrinsic_dimension(X: Matrix, *, groups: Groups | None = None) -> Tensor | np.float64:
    """Intrinsic dimension of the rows of a matrix by the TwoNN estimator.

    With mu = r2 / r1, the distances of a row to its two nearest (Euclidean), sorted over the N rows, it is the slope
    through 0 of -log(1 - i / N) on log mu_i, the tenth of largest mu left out (Facco et al., Sci. Rep. 7, 12140
    (2017)). Rows with a copy (r1 = 0) are left out.

    Args:
        X: [n, D], a tensor or an array.
        groups: [n] labels; the first row of each label is taken. None: all rows are.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: X is not a finite matrix, there are fewer than 3 groups, or too few different distances.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> print(round(similarity.intrinsic_dimension(np.concatenate([x, x**2], axis=1)), 1))
        2.0
    """
    value: Tensor | np.float64 = like(X, intrinsic_dimensions(sampled({"X": as_matrix("X", X)}, groups))[0])
    return value


def intrinsic_dimensions(sample: SampledMatrices) -> Tensor:
    """`intrinsic_dimension` of every matrix, from the first row of each group: [n_names] float64."""
    first = _first_rows(sample.groups)
    values = {name: rows[first.to(rows.device)] for name, rows in sample.values.items()}
    chosen = SampledMatrices(values, torch.arange(len(first)))
    lists = neighbour_lists(chosen, 2, "intrinsic dimension")
    return torch.stack([_two_nn(name, values[name], near) for name, near in zip(values, lists, strict=True)])


def _first_rows(groups: Tensor) -> Tensor:
    """The positions of the first row of each group, ascending."""
    names, codes = groups.unique(return_inverse=True)
    order = torch.arange(len(groups), device=groups.device)
    first = torch.full_like(names, len(groups)).scatter_reduce_(0, codes, order, "amin")
    return first.sort().values


def _two_nn(name: str, rows: Tensor, near: Tensor) -> Tensor:
    """The slope of TwoNN from rows [n, D] and their two nearest [n, 2]."""
    squared = distances_to(rows, torch.linalg.vecdot(rows, rows), rows, near)
    squared = squared[squared[:, 0] > 0]
    n = len(squared)
    x = (squared[:, 1] / squared[:, 0]).log().sort().values[: int(n * (1 - DISCARDED))] / 2
    if not bool((x > 0).any()):
        raise InputError(
            f"the intrinsic dimension of {name} is undefined: of {len(rows)} rows, one a group, {n} have no copy, and "
            "their two nearest are equally far; give more rows that differ"
        )
    y = -torch.log1p(-torch.arange(1, len(x) + 1, device=x.device).double() / n)
    return (x @ y) / (x @ x)
