"""Linear maps whose one regularisation strength is chosen by two-fold cross-validation.

Every function takes leading batch dimensions, so one global map and a thousand local ones are the same code.
The rules are those of scikit-matter's `Ridge2FoldCV(alpha_type="relative")` with the score
`neg_root_mean_squared_error`: `cutoff` is its truncated SVD, `ridge` its Tikhonov method, and an alpha is
relative to the largest singular value of the two folds.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.statistics.compressed import Folds

Solver = Literal["cutoff", "ridge"]
SOLVERS: tuple[Solver, ...] = ("cutoff", "ridge")


def default_alphas() -> np.ndarray:
    """The grid of Goscinski et al. (2021) and of the paper: 20 relative strengths from 1e-9 to 0.9."""
    return np.geomspace(1e-9, 0.9, 20)


def checked_alphas(alphas: object = None) -> np.ndarray:
    """Ascending relative strengths in [0, 1), the default grid for None."""
    try:
        grid = np.asarray(default_alphas() if alphas is None else alphas, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or not grid.size or not np.all((grid >= 0) & (grid < 1)):
        raise InputError(f"alphas must be a non-empty 1-D array of relative strengths in [0, 1), got {alphas!r}")
    return np.sort(grid)


class Svd(NamedTuple):
    """Thin singular value decomposition: u [..., n, r], s [..., r], vh [..., r, D]."""

    u: Tensor
    s: Tensor
    vh: Tensor


def svd(x: Tensor) -> Svd:
    return Svd(*torch.linalg.svd(x, full_matrices=False))


class TwoFoldPath:
    """A source, factorised once for every alpha and every target.

    Singular values within `unseen` of the largest are left out: rounding of what the rows were compressed to.
    """

    def __init__(
        self, x: Folds, solver: Solver = "cutoff", alphas: np.ndarray | None = None, unseen: float = 0.0
    ) -> None:
        if solver not in SOLVERS:
            raise InputError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
        self.solver = solver
        self.svds = svd(x.first), svd(x.second)
        self.full = svd(x.full)
        # Transposed, so that rows of singular directions are contiguous: [..., r, rows of the other fold].
        self.projected = self.svds[0].vh @ x.second.mT, self.svds[1].vh @ x.first.mT
        top = torch.maximum(*(factor.s.amax(-1) for factor in self.svds))
        self.strengths = top[..., None] * torch.from_numpy(checked_alphas(alphas)).to(top)
        rounding = max(x.n_first + x.n_second, x.full.shape[-1]) * torch.finfo(top.dtype).eps
        self.unseen = unseen * top
        self.floor = self.unseen.clamp(min=rounding)

    def losses(self, y: Folds) -> Tensor:
        """Score of every alpha for targets y [..., n, T]: [..., n_alphas].

        The mean over columns of the root mean squared error, averaged over the two directions.
        """
        score = _cutoff_losses if self.solver == "cutoff" else _ridge_losses
        total = torch.zeros_like(self.strengths)
        for fit, known, missing, n_rows in ((0, y.first, y.second, y.n_second), (1, y.second, y.first, y.n_first)):
            factor = self.svds[fit]
            losses = score(self.projected[fit], factor.s, factor.u.mT @ known, missing, self.strengths, self.floor)
            total += losses * (missing.shape[-2] / n_rows) ** 0.5
        return total / 2

    def strength(self, y: Folds) -> Tensor:
        """The absolute strength [...] with the least loss for targets y; ties go to the smallest."""
        return self.strengths.gather(-1, self.losses(y).argmin(-1, keepdim=True))[..., 0]

    def predict(self, rows: Tensor, y: Folds) -> Tensor:
        """Map rows [..., m, D] by the fit of all training rows to y [..., n, T]: [..., m, T]."""
        return (self.project(rows) * self._filter(self.strength(y))[..., None, :]) @ (self.full.u.mT @ y.full)

    def project(self, rows: Tensor) -> Tensor:
        """Coordinates of rows [..., m, D] along the singular directions of all training rows."""
        return rows @ self.full.vh.mT

    def _filter(self, strength: Tensor) -> Tensor:
        s, nothing = self.full.s, torch.zeros_like(self.full.s)
        if self.solver == "ridge":
            return torch.where(s > self.unseen[..., None], s / (s.square() + strength[..., None]), nothing)
        return torch.where(s > torch.maximum(strength, self.unseen)[..., None], 1 / s, nothing)


def _ridge_losses(
    projected: Tensor, s: Tensor, coefficients: Tensor, target: Tensor, strengths: Tensor, floor: Tensor
) -> Tensor:
    losses = torch.empty_like(strengths)
    for a, strength in enumerate(strengths.unbind(-1)):
        shrink = torch.where(s > floor[..., None], s / (s.square() + strength[..., None]), torch.zeros_like(s))
        losses[..., a] = _mean_rmse(target - (projected.mT * shrink[..., None, :]) @ coefficients)
    return losses


def _cutoff_losses(
    projected: Tensor, s: Tensor, coefficients: Tensor, target: Tensor, strengths: Tensor, floor: Tensor
) -> Tensor:
    """Peel the directions off the residual from the strongest cut to the weakest: one product in all, not one an alpha.

    Residuals, and not sums of squares, so that small errors keep all their digits.
    """
    batch = strengths.shape[:-1]
    projected, coefficients = (
        projected.reshape(-1, *projected.shape[-2:]),
        coefficients.reshape(-1, *coefficients.shape[-2:]),
    )
    s, strengths = s.reshape(-1, s.shape[-1]), strengths.reshape(-1, strengths.shape[-1])
    least = torch.maximum(strengths, floor.reshape(-1, 1))
    kept = (s[:, None, :] > least[:, :, None]).sum(-1).cpu()
    residual = target.reshape(-1, *target.shape[-2:]).clone()
    losses = torch.empty_like(strengths)
    done = torch.zeros_like(kept[:, 0])
    for a in range(strengths.shape[1] - 1, -1, -1):
        if bool((kept[:, a] > done).any()):
            left, right = _band(projected, s, coefficients, done, kept[:, a])
            residual.baddbmm_(left.mT, right, alpha=-1)
            losses[:, a] = _mean_rmse(residual)
        else:
            losses[:, a] = losses[:, a + 1] if a + 1 < strengths.shape[1] else _mean_rmse(residual)
        done = kept[:, a]
    return losses.reshape(*batch, -1)


def _band(projected: Tensor, s: Tensor, coefficients: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Directions start..stop of each problem, padded with zeros to the widest: [b, w, m] and [b, w, T]."""
    columns = start[:, None] + torch.arange(int((stop - start).max()))
    inside = (columns < stop[:, None]).to(s.device)
    columns = columns.clamp(max=s.shape[1] - 1).to(s.device)
    problems = torch.arange(len(s), device=s.device)[:, None]
    inverse = torch.where(inside, 1 / s[problems, columns], torch.zeros((), dtype=s.dtype, device=s.device))
    return projected[problems, columns], coefficients[problems, columns] * inverse[..., None]


def _mean_rmse(residual: Tensor) -> Tensor:
    """Mean over columns of the root mean square over rows: [..., m, T] to [...]."""
    return residual.square().mean(-2).sqrt().mean(-1)
