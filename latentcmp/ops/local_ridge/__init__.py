"""Ridge maps of many test rows, each fitted to its nearest training rows with a strength of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.local_ridge import op

__all__ = ["local_ridge"]


def local_ridge(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    targets: Sequence[tuple[Tensor, Tensor]],
    strengths: Tensor,
    *,
    backend: str | None = None,
) -> Tensor:
    """Compute the row errors of local ridge maps in dual form, without gradients.

    For each query q and target: centre the k rows x and y by their own means, K = x x'. A strength t gives the
    prediction ybar + (q - xbar) x' (K + t^2 w_max I)^-1 y with w_max the largest eigenvalue of K (ybar where K is 0).
    It is the t with the least squared error, summed over all columns, when each fold in turn is fitted, with the w_max
    of its own block of K, and the other one predicted; ties, to about 1e-13 of the squares, go to the smallest t.
    With K = U w U' on one fold a loss is a quadratic form in 1 / (w + t^2 w_max), so one eigendecomposition for each
    fold serves all strengths and targets.

    Args:
        x: [n_train, D] float64, on one device with all the others.
        query: [b, D] float64, the test rows.
        rows: [b, k] int64, row numbers of x and of the targets, the first fold before the second.
        n_first: number of rows of the first fold, 1 .. k - 1.
        targets: y_train [n_train, T] and y_test [b, T] of each target, float64.
        strengths: [s] float64, ascending, 1e-6 or more.
        backend: "cpu", "cuda" (each on its device) or "reference"; None takes LATENTCMP_BACKEND where it is one of
            these, else the first available.

    Returns:
        [n_targets, b] float64, the norms of the residuals of y_test.

    Raises:
        InputError: wrong dtypes, shapes or devices, or a backend that is not available. The values of rows and of
            strengths are not checked.
    """
    _check_source(x, query, rows, n_first, strengths)
    for y_train, y_test in targets:
        _check_target(y_train, y_test, x, query)
    chosen = backends.choose(op.BACKENDS, x.device.type, backend)
    train, test = [y_train for y_train, _ in targets], [y_test for _, y_test in targets]
    errors: Tensor = torch.ops.latentcmp.local_ridge(x, query, rows, n_first, train, test, strengths, chosen)
    return errors


def _check_source(x: Tensor, query: Tensor, rows: Tensor, n_first: int, strengths: Tensor) -> None:
    if x.dim() != 2 or x.dtype != torch.float64 or not x.numel():
        raise InputError(f"x must be [n_train, D] float64 and not empty, got {x.dtype} {tuple(x.shape)}")
    if rows.dim() != 2 or rows.dtype != torch.int64:
        raise InputError(f"rows must be [b, k] int64, got {rows.dtype} {tuple(rows.shape)}")
    if not 1 <= n_first < rows.shape[1]:
        raise InputError(f"n_first must be 1 to {rows.shape[1] - 1} of {rows.shape[1]} rows, got {n_first}")
    _check_rows("query", query, (len(rows), x.shape[1]))
    if strengths.dim() != 1 or strengths.dtype != torch.float64 or not len(strengths):
        raise InputError(f"strengths must be [s] float64, s not 0, got {strengths.dtype} {tuple(strengths.shape)}")
    if any(part.device != x.device for part in (query, rows, strengths)):
        raise InputError("query, rows and strengths must be on x's device")


def _check_target(y_train: Tensor, y_test: Tensor, x: Tensor, query: Tensor) -> None:
    if y_train.dim() != 2 or y_train.dtype != torch.float64 or len(y_train) != len(x) or not y_train.numel():
        raise InputError(f"y_train must be [{len(x)}, T] float64, T not 0, got {y_train.dtype} {tuple(y_train.shape)}")
    _check_rows("y_test", y_test, (len(query), y_train.shape[1]))
    if y_train.device != x.device or y_test.device != x.device:
        raise InputError("y_train and y_test must be on x's device")


def _check_rows(name: str, rows: Tensor, shape: tuple[int, int]) -> None:
    if rows.dtype != torch.float64 or tuple(rows.shape) != shape:
        raise InputError(f"{name} must be {shape} float64, got {rows.dtype} {tuple(rows.shape)}")
