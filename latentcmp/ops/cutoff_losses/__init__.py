"""Two-fold losses of many small truncated maps at once: what local reconstruction spends its time on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.cutoff_losses.reference import cutoff_losses_reference


class FoldFit(NamedTuple):
    """One fold of every local problem, its source rows factorised as u s v'.

    rows: [n_problems, n] int64, its rows among the training rows.
    directions: [n_problems, n, r], u, strongest first.
    projected: [n_problems, r, m], the source rows of the other fold along v, over s.
    kept: [n_problems, n_alphas] int64, how many leading directions each alpha keeps, not rising with alpha.
    """

    rows: Tensor
    directions: Tensor
    projected: Tensor
    kept: Tensor


def cutoff_losses(y: Tensor, first: FoldFit, second: FoldFit, *, backend: str | None = None) -> Tensor:
    """Two-fold loss of every problem and alpha for one target.

    The rows of both folds, centred by their common mean, are the target of each problem. Each fold is fitted in
    turn by truncated SVD and the other one predicted; a loss is the mean over columns of the root mean squared
    error, averaged over the two turns (scikit-matter's `Ridge2FoldCV`, `neg_root_mean_squared_error`).
    All cutoffs come from one product: directions are peeled off the residual from the strongest to the weakest.

    Args:
        y: [n_train, D_Y] float64.
        first, second: the folds of each problem, on y's device.
        backend: force one by name; None takes LATENTCMP_BACKEND or the fastest available. There is no Triton
            kernel: "triton" runs the reference.

    Returns:
        [n_problems, n_alphas] float64.

    Raises:
        InputError: wrong dtypes or shapes. The contents of rows and kept are the caller's to keep in range.
    """
    _check(y, first, second)
    _check(y, second, first)
    chosen = backends.choose(y.device.type, backend)
    if chosen in ("cpu", "cuda"):
        from latentcmp.ops.cutoff_losses import native

        return (native.losses_cpu if chosen == "cpu" else native.losses_cuda)(y, first, second)
    return cutoff_losses_reference(y, first, second)


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
