"""Feature reconstruction measures between two matrices, with the call signatures of scikit-matter's.

Goscinski, Fraux, Imbalzano, Ceriotti, "The role of feature space in atomistic learning", MLST 2, 025028 (2021),
arXiv 2009.02741. Both matrices hold the same rows (atoms or structures). The split, the scaling, the folds and the grid
of regularisation strengths default to scikit-matter's (`skmatter.metrics`, `Ridge2FoldCV`), and with `solver="cutoff"`
so do the numbers, to 1e-8 for global and 1e-6 for local errors. All functions share these arguments:

    X: source [n, D_X], a torch tensor (computed on its device) or a NumPy array of any real dtype; computed in float64.
    Y: target [n, D_Y], likewise.
    test_idx: row numbers or a boolean mask of the test rows; None for the complement of `train_idx`.
    train_idx: the same for the training rows; with neither given, the rows are halved.
    solver: "cutoff" (truncated SVD) or "ridge" (Tikhonov).
    alphas: strengths in [0, 1) relative to the largest singular value of the two folds, of which two-fold
        cross-validation chooses one.

Each matrix is centred and divided by one number, so that its training rows have total variance 1: an error of 1 is no
better than the mean, and more is possible. Results are tensors where X is one, else NumPy arrays or numbers. All raise
`latentcmp.InputError` for rows that do not match, non-finite values, fewer than two training rows, no test rows, or a
matrix that is constant over the training rows.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.inputs import root_mean_square, split_rows
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.measures.registry import Measure
from latentcmp.systems.folds import resolve_split

Matrix: TypeAlias = Tensor | np.ndarray

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
    """Row errors ||y_i - x_i W|| of one linear map W fitted to the training rows.

    Returns:
        [n_test] float64.

    Example:
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> pointwise_global_reconstruction_error(x, x**2, test_idx=[0, 4])
        tensor([2.8735, 1.1832], dtype=torch.float64)
    """
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
    """GFRE(X -> Y): root mean square of the row errors of one linear map.

    Returns:
        A number.

    Example:
        A wider matrix reconstructs a linear function of itself, but not the reverse.

        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> bool(global_reconstruction_error(X, X[:, :2]) < 1e-12)
        True
        >>> bool(global_reconstruction_error(X[:, :2], X) > 0.5)
        True
    """
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
    """Row distances between the linear prediction and its best orthogonal version (Procrustes).

    Where D_X > D_Y the prediction is padded with zeros to the wider width (scikit-matter raises).

    Returns:
        [n_test] float64.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> pointwise_global_reconstruction_distortion(X, X[:, ::-1], test_idx=[0, 1]).round(9)
        array([0., 0.])
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
    """GFRD(X -> Y): root mean square of the row distortions.

    Returns:
        A number.

    Example:
        A rotation does not distort, a change of the relative scale of columns does.

        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> bool(global_reconstruction_distortion(X, X[:, ::-1]) < 1e-12)
        True
        >>> bool(global_reconstruction_distortion(X, X * [1, 2, 3]) > 0.1)
        True
    """
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
    """Row errors, each of a linear map of its own fitted to the `n_local_points` nearest training rows.

    Distances are Euclidean in the scaled X; exact ties are broken by row order. Both sides are centred on the means of
    the neighbours. `n_local_points` is at least 2 and at most the number of training rows.

    Returns:
        [n_test] float64.

    Example:
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> pointwise_local_reconstruction_error(x, x**2, 3, test_idx=[0, 4])
        tensor([0.8452, 0.3622], dtype=torch.float64)
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
    """LFRE(X -> Y): root mean square of the row errors of the local maps.

    Returns:
        A number.

    Example:
        A curve is far from linear as a whole, but close to it locally.

        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> print(global_reconstruction_error(x, x**2).round(2), local_reconstruction_error(x, x**2, 10).round(2))
        1.07 0.01
    """
    return _like(X, root_mean_square(_pointwise("lfre", X, Y, test_idx, train_idx, solver, alphas, n_local_points)))


def _pointwise(
    measure: Measure,
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


def as_matrix(name: str, values: Any) -> Tensor:
    """Return features as a finite floating-point tensor [n, D] on their device, not copied where that is possible.

    Raises:
        InputError: `values` are not such a matrix; the message names it as `name`.
    """
    matrix = values.detach() if isinstance(values, Tensor) else _from_array(name, values)
    if matrix.ndim != 2:
        raise InputError(f"{name} must be a matrix [rows, features], got shape {tuple(matrix.shape)}")
    if not matrix.shape[1]:
        raise InputError(f"{name} has no columns")
    if matrix.is_complex():
        raise InputError(f"{name} is complex; give real features")
    if not bool(torch.isfinite(matrix).all()):
        row = int((~torch.isfinite(matrix)).any(1).nonzero()[0, 0])
        raise InputError(f"{name} holds a NaN or an infinity, first in row {row}; remove or correct that row")
    return matrix if matrix.is_floating_point() else matrix.to(torch.float64)


def _from_array(name: str, values: Any) -> Tensor:
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise InputError(f"{name} is complex; give real features")
        shared = (
            array.dtype in (np.float32, np.float64) and array.flags.writeable and min(array.strides, default=0) >= 0
        )
        return torch.from_numpy(array if shared else np.array(array, dtype=np.float64, order="C"))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} must be a matrix of numbers [rows, features]: {error}") from error


def checked_split(
    matrices: dict[str, Tensor], train_idx: Any = None, test_idx: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and test positions (int64) of matrices with the same rows on the same device.

    Args:
        matrices: {name: [n, D]}.
        train_idx: row numbers or a boolean mask; None for the complement of `test_idx`.
        test_idx: the same for the test rows; with neither given, the rows are halved.

    Raises:
        InputError: rows or devices differ, positions are not valid, or a side has too few rows.
    """
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


def _like(X: Matrix, value: Tensor) -> Matrix:
    """Tensors in, tensors out; arrays in, arrays (or a NumPy scalar) out."""
    return value if isinstance(X, Tensor) else value.numpy()[()]
