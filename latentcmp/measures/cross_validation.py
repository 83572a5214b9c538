"""Linear maps whose one regularisation strength is chosen by two-fold cross-validation.

The rules are those of scikit-matter's `Ridge2FoldCV(alpha_type="relative")` with the score
`neg_root_mean_squared_error`: `cutoff` is its truncated SVD, `ridge` its Tikhonov method, and an alpha is relative to
the largest singular value of the two folds. With a fit X = U S V', the map is V f(S) U'Y, where f is 1 / s for
s > strength, or s / (s^2 + strength).

Every function takes leading batch dimensions, so one global map and a thousand local ones are the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError

Solver = Literal["cutoff", "ridge"]
SOLVERS: tuple[Solver, ...] = ("cutoff", "ridge")


def default_alphas() -> np.ndarray:
    """The grid of Goscinski et al., MLST 2, 025028 (2021): 20 relative strengths from 1e-9 to 0.9."""
    return np.geomspace(1e-9, 0.9, 20)


def checked_alphas(alphas: object = None) -> np.ndarray:
    """Return a grid of relative strengths in ascending order.

    Args:
        alphas: numbers in [0, 1); None for the default grid.

    Returns:
        [n_alphas] float64.

    Raises:
        InputError: `alphas` is empty, not 1-D, or holds something else.
    """
    return checked_grid("alphas", default_alphas() if alphas is None else alphas)


def checked_grid(name: str, given: object, least: float = 0.0) -> np.ndarray:
    """Return relative strengths in [least, 1) in ascending order: [n] float64. Raises InputError for anything else."""
    try:
        grid = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or not grid.size or not np.all((grid >= least) & (grid < 1)):
        raise InputError(f"{name} must be a non-empty 1-D array of relative strengths in [{least:g}, 1), got {given!r}")
    return np.sort(grid)


class Fit(NamedTuple):
    """A source factorised on some rows, X = U S V', and its targets Y there.

    s: [..., r] singular values, descending.
    directions: [..., D, r], V.
    coefficients: [..., r, T], U'Y.
    """

    s: Tensor
    directions: Tensor
    coefficients: Tensor


class Residual(Protocol):
    """Squared errors of every target column on some rows, for weights [..., r, T] along the directions of a fit."""

    def squares(self, weights: Tensor) -> Tensor:
        """With all directions: [..., T]."""

    def path(self, weights: Tensor, kept: Tensor) -> Tensor:
        """With the first kept[a] directions, kept [n_alphas, ...]: [n_alphas, ..., T]."""


class Fold(NamedTuple):
    """A fit of one fold, the residual of its maps on the other fold, and the number of rows of that other fold."""

    fit: Fit
    residual: Residual
    n_rows: int


@dataclass(frozen=True)
class TwoFoldCV:
    """How the strength of a map is chosen.

    Attributes:
        solver: "cutoff" (truncated SVD) or "ridge" (Tikhonov).
        alphas: [n_alphas] ascending strengths relative to the largest singular value of the folds, on the device of
            the features.
        rcond: singular values up to this fraction of the largest are rounding errors and count as zero.
    """

    solver: Solver
    alphas: Tensor
    rcond: float = 0.0

    @classmethod
    def of(cls, solver: Solver, alphas: np.ndarray | None, device: torch.device, rcond: float = 0.0) -> "TwoFoldCV":
        """Check the solver and the grid (None: the default grid). Raises InputError."""
        if solver not in SOLVERS:
            raise InputError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
        return cls(solver, torch.from_numpy(checked_alphas(alphas)).to(device), rcond)

    def weights(self, folds: tuple[Fold, Fold], full: Fit, widths: Sequence[int]) -> Tensor:
        """Weights of the fit to all training rows, each target with the strength of its least loss.

        Args:
            folds: a fit of each fold.
            full: the fit of both folds together.
            widths: the columns of each target; they stand side by side as the T columns.

        Returns:
            [..., r, T] along the directions of `full`. Ties between strengths go to the smallest.
        """
        top = torch.maximum(folds[0].fit.s[..., 0], folds[1].fit.s[..., 0])
        strengths = top[..., None] * self.alphas
        best = self._losses(folds, strengths, self.rcond * top, widths).argmin(0)
        chosen = strengths.gather(-1, best)[..., None].unbind(-2)
        each = torch.cat([part.expand(*top.shape, width) for part, width in zip(chosen, widths, strict=True)], -1)
        return self._weights(full, each, self.rcond * top)

    def _losses(self, folds: tuple[Fold, Fold], strengths: Tensor, least: Tensor, widths: Sequence[int]) -> Tensor:
        """Loss of every strength and target: [n_alphas, ..., n_targets].

        The mean over columns of the root mean squared error, summed over the two directions.
        """
        n, width = sum(fold.n_rows for fold in folds), folds[0].fit.directions.shape[-2]
        floor = least.clamp(min=max(n, width) * torch.finfo(least.dtype).eps)
        losses = []
        for fit, residual, n_rows in folds:
            rmse = (self._path(fit, residual, strengths, floor) / n_rows).sqrt_()
            losses.append(torch.stack([columns.mean(-1) for columns in rmse.split_with_sizes(list(widths), -1)], -1))
        return losses[0] + losses[1]

    def _path(self, fit: Fit, residual: Residual, strengths: Tensor, floor: Tensor) -> Tensor:
        """Squared errors at every strength [..., n_alphas]: [n_alphas, ..., T]."""
        if self.solver == "ridge":
            each = strengths[..., None].unbind(-2)
            return torch.stack([residual.squares(self._weights(fit, strength, floor)) for strength in each])
        least = torch.maximum(strengths, floor[..., None]).movedim(-1, 0)
        return residual.path(self._weights(fit, floor[..., None], floor), (fit.s > least[..., None]).sum(-1))

    def _weights(self, fit: Fit, strength: Tensor, floor: Tensor) -> Tensor:
        """Weights [..., r, T] along the directions of a fit, at a strength [..., 1] or one a column [..., T]."""
        s, strength, floor = fit.s[..., None], strength[..., None, :], floor[..., None, None]
        if self.solver == "cutoff":
            return torch.where(s > torch.maximum(strength, floor), 1 / s, 0.0) * fit.coefficients
        return torch.where(s > floor, s / (s.square() + strength), 0.0) * fit.coefficients
