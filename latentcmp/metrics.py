"""Feature reconstruction measures between two matrices, called like scikit-matter's.

Goscinski, Fraux, Imbalzano, Ceriotti, "The role of feature space in atomistic learning", MLST 2, 025028 (2021),
arXiv 2009.02741. Both matrices hold the same rows (atoms or structures). The split, the scaling, the folds and
the grid of regularisation strengths default to scikit-matter's, and with `solver="cutoff"` so do the numbers.

All functions take `X` [n, D_X] (source) and `Y` [n, D_Y] (target) as torch tensors, computed on their device, or
NumPy arrays; any real dtype, computed in float64. `test_idx` and `train_idx` are row numbers or boolean masks:
what is not given is the complement of the other, with neither given the rows are halved. `solver` is "cutoff"
(truncated SVD) or "ridge"; `alphas` are strengths relative to the largest singular value of the two folds,
chosen by two-fold cross-validation. All raise `latentcmp.errors.InputError` for rows that do not match,
non-finite values, fewer than two training rows, no test rows, or a matrix that is constant over the training
rows. Errors are in units of the target's spread: 1 is no better than the mean, and more is possible.
"""

from typing import Any

import numpy as np
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.inputs import root_mean_square, split_rows
from latentcmp.measures.matrices import Matrix, as_matrix
from latentcmp.measures.matrices import like as _like
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.systems.folds import resolve_split

__all__ = [
    "global_reconstruction_distortion",
    "global_reconstruction_error",
    "local_reconstruction_error",
    "pointwise_global_reconstruction_distortion",
    "pointwise_global_reconstruction_error",
    "pointwise_local_reconstruction_error",
]


def pointwise_global_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """Row errors ||y_i - x_i W|| [n_test] of one linear map W fitted on the training rows."""
    return _like(X, _pointwise("gfre", X, Y, test_idx, train_idx, solver, alphas))


def global_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """GFRE(X -> Y): sqrt of the mean squared row error of one linear map, a scalar."""
    return _like(X, root_mean_square(_pointwise("gfre", X, Y, test_idx, train_idx, solver, alphas)))


def pointwise_global_reconstruction_distortion(
    X: Matrix,
    Y: Matrix,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """Row distances [n_test] between the linear prediction and its best orthogonal version.

    Where D_X > D_Y the prediction is padded with zeros to the wider width (scikit-matter raises).
    """
    return _like(X, _pointwise("gfrd", X, Y, test_idx, train_idx, solver, alphas))


def global_reconstruction_distortion(
    X: Matrix,
    Y: Matrix,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """GFRD(X -> Y): sqrt of the mean squared row distortion, a scalar."""
    return _like(X, root_mean_square(_pointwise("gfrd", X, Y, test_idx, train_idx, solver, alphas)))


def pointwise_local_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    n_local_points: int,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """Row errors [n_test], each by a map of its own fitted on the `n_local_points` nearest training rows.

    Distances are Euclidean in the scaled X; exact ties are broken by row order.
    """
    return _like(X, _pointwise("lfre", X, Y, test_idx, train_idx, solver, alphas, n_local_points))


def local_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    n_local_points: int,
    test_idx: Any = None,
    train_idx: Any = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
) -> Matrix:
    """LFRE(X -> Y): sqrt of the mean squared row error of the local maps, a scalar."""
    return _like(X, root_mean_square(_pointwise("lfre", X, Y, test_idx, train_idx, solver, alphas, n_local_points)))


def _pointwise(
    measure: ErrorName,
    X: Matrix,
    Y: Matrix,
    test_idx: Any,
    train_idx: Any,
    solver: Solver,
    alphas: Any,
    n_local_points: int | None = None,
) -> Tensor:
    matrices = {"X": as_matrix("X", X), "Y": as_matrix("Y", Y)}
    train, test = checked_split(matrices, train_idx, test_idx)
    rows = split_rows(matrices, train, test)
    options = {"n_local_points": n_local_points, "solver": solver, "alphas": checked_alphas(alphas)}
    return pointwise_errors(rows["X"], [rows["Y"]], measure, **options)[0]  # type: ignore[arg-type]


def checked_split(
    matrices: dict[str, Tensor], train_idx: Any = None, test_idx: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Train and test rows of matrices that must have the same number of rows and lie on the same device."""
    lengths = {name: len(values) for name, values in matrices.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"all matrices must hold the same rows, got {_listed(lengths)} rows")
    devices = {name: values.device for name, values in matrices.items()}
    if len(set(devices.values())) > 1:
        raise InputError(f"all matrices must lie on one device, got {_listed(devices)}; move them with .to(device)")
    train, test = resolve_split(next(iter(lengths.values())), train_idx, test_idx)
    if len(train) < 2 or len(test) < 1:
        raise InputError(f"need at least 2 training rows and 1 test row, got {len(train)} and {len(test)}")
    return train, test


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
