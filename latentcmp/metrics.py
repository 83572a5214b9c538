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

from torch import Tensor

from latentcmp._runtime.types import RowIndices, Strengths
from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.inputs import root_mean_square, split_rows
from latentcmp.measures.matrices import Matrix, as_matrix, checked_split
from latentcmp.measures.matrices import like as _like
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.pairs import pointwise_errors

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
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """Row errors ||y_i - x_i W|| of one linear map W fitted to the training rows.

    Returns:
        [n_test] float64.

    Example:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> pointwise_global_reconstruction_error(x, x**2, test_idx=[0, 4])
        tensor([2.8735, 1.1832], dtype=torch.float64)
    """
    return _like(X, _pointwise("gfre", X, Y, test_idx, train_idx, solver, alphas))


def global_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """GFRE(X -> Y): root mean square of the row errors of one linear map.

    Returns:
        A number.

    Example:
        A wider matrix reconstructs a linear function of itself, but not the reverse.

        >>> import numpy as np

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
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """Row distances between the linear prediction and its best orthogonal version (Procrustes).

    Where D_X > D_Y the prediction is padded with zeros to the wider width (scikit-matter raises).

    Returns:
        [n_test] float64.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> pointwise_global_reconstruction_distortion(X, X[:, ::-1], test_idx=[0, 1]).round(9)
        array([0., 0.])
    """
    return _like(X, _pointwise("gfrd", X, Y, test_idx, train_idx, solver, alphas))


def global_reconstruction_distortion(
    X: Matrix,
    Y: Matrix,
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """GFRD(X -> Y): root mean square of the row distortions.

    Returns:
        A number.

    Example:
        A rotation does not distort, a change of the relative scale of columns does.

        >>> import numpy as np

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
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """Row errors, each of a linear map of its own fitted to the `n_local_points` nearest training rows.

    Distances are Euclidean in the scaled X; exact ties are broken by row order. Both sides are centred on the means of
    the neighbours. `n_local_points` is at least 2 and at most the number of training rows.

    Returns:
        [n_test] float64.

    Example:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> pointwise_local_reconstruction_error(x, x**2, 3, test_idx=[0, 4])
        tensor([0.8452, 0.3622], dtype=torch.float64)
    """
    return _like(X, _pointwise("lfre", X, Y, test_idx, train_idx, solver, alphas, n_local_points))


def local_reconstruction_error(
    X: Matrix,
    Y: Matrix,
    n_local_points: int,
    test_idx: RowIndices | None = None,
    train_idx: RowIndices | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Strengths | None = None,
) -> Matrix:
    """LFRE(X -> Y): root mean square of the row errors of the local maps.

    Returns:
        A number.

    Example:
        A curve is far from linear as a whole, but close to it locally.

        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> print(global_reconstruction_error(x, x**2).round(2), local_reconstruction_error(x, x**2, 10).round(2))
        1.07 0.01
    """
    return _like(X, root_mean_square(_pointwise("lfre", X, Y, test_idx, train_idx, solver, alphas, n_local_points)))


def _pointwise(
    measure: ErrorName,
    X: Matrix,
    Y: Matrix,
    test_idx: RowIndices | None,
    train_idx: RowIndices | None,
    solver: Solver,
    alphas: Strengths | None,
    n_local_points: int | None = None,
) -> Tensor:
    matrices = {"X": as_matrix("X", X), "Y": as_matrix("Y", Y)}
    train, test = checked_split(matrices, train_idx, test_idx)
    rows = split_rows(matrices, train, test)
    options = {"n_local_points": n_local_points, "solver": solver, "alphas": checked_alphas(alphas)}
    return pointwise_errors(rows["X"], [rows["Y"]], measure, **options)[0]  # type: ignore[arg-type]
