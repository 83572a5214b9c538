"""Two-fold losses of many small truncated SVD maps, the main cost of local reconstruction."""

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.cutoff_losses import op
from latentcmp.ops.cutoff_losses.reference import FoldFit

__all__ = ["FoldFit", "cutoff_losses"]


def cutoff_losses(y: Tensor, first: FoldFit, second: FoldFit, *, backend: str | None = None) -> Tensor:
    """Compute the two-fold loss of every problem and alpha for one target, without gradients.

    The rows of both folds, centred by their common mean, are the target of each problem. Each fold is fitted in
    turn by truncated SVD and the other one predicted; a loss is the mean over columns of the root mean squared
    error, averaged over the two turns (scikit-matter's `Ridge2FoldCV`, `neg_root_mean_squared_error`).
    The residuals of all cutoffs come from one product, to which directions are added in descending order of their
    singular values.

    Args:
        y: [n_train, D_Y] float64.
        first: the first fold of each problem, on y's device.
        second: the second fold of each problem, on y's device.
        backend: "cpu", "cuda" (each on its device) or "reference"; None takes LATENTCMP_BACKEND where it is one of
            these, else the first available.

    Returns:
        [n_problems, n_alphas] float64.

    Raises:
        InputError: wrong dtypes, shapes or devices, or a backend that is not available. The values of rows and kept
            are not checked.
    """
    _check(y, first, second)
    _check(y, second, first)
    chosen = backends.choose(op.BACKENDS, y.device.type, backend)
    losses: Tensor = torch.ops.latentcmp.cutoff_losses(y, *first, *second, chosen)
    return losses


def _check(y: Tensor, fold: FoldFit, other: FoldFit) -> None:
    if y.dim() != 2 or y.dtype != torch.float64 or not y.numel():
        raise InputError(f"y must be [n_train, D_Y] float64 and not empty, got {y.dtype} {tuple(y.shape)}")
    if fold.rows.dtype != torch.int64 or fold.rows.dim() != 2 or not fold.rows.shape[1]:
        raise InputError(f"rows must be [n_problems, n] int64, got {fold.rows.dtype} {tuple(fold.rows.shape)}")
    n_problems, n = fold.rows.shape
    rank, n_alphas = fold.directions.shape[-1], fold.kept.shape[-1]
    expected = {
        "directions": (torch.float64, (n_problems, n, rank)),
        "projected": (torch.float64, (n_problems, rank, other.rows.shape[-1])),
        "kept": (torch.int64, (n_problems, n_alphas)),
    }
    for name, (dtype, shape) in expected.items():
        given = getattr(fold, name)
        if given.dtype != dtype or tuple(given.shape) != shape or not n_alphas:
            raise InputError(f"{name} must be {dtype} {shape}, got {given.dtype} {tuple(given.shape)}")
    if other.kept.shape != fold.kept.shape or any(part.device != y.device for part in fold):
        raise InputError("both folds must have the same alphas and lie on y's device")
