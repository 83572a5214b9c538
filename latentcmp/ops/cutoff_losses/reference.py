"""Two-fold losses in PyTorch: the oracle of the kernels, and the backend that is always available."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class FoldFit(NamedTuple):
    """One fold of every problem, its source rows factorised as u s v'.

    Attributes:
        rows: [n_problems, n] int64, rows of y.
        directions: [n_problems, n, r] float64, u, singular values in descending order.
        projected: [n_problems, r, m] float64, the source rows of the other fold times v / s.
        kept: [n_problems, n_alphas] int64, the number of leading directions kept, not increasing with alpha.
    """

    rows: Tensor
    directions: Tensor
    projected: Tensor
    kept: Tensor


def cutoff_losses_reference(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """As `cutoff_losses`."""
    rows = y[torch.cat([first.rows, second.rows], 1)]
    rows -= rows.mean(1, keepdim=True)
    parts = torch.split(rows, [first.rows.shape[1], second.rows.shape[1]], dim=1)
    return (_losses(first, parts[0], parts[1]) + _losses(second, parts[1], parts[0])) / 2


def _losses(fit: FoldFit, fitted: Tensor, scored: Tensor) -> Tensor:
    """One fold fitted to rows [n_problems, n, D_Y] and scored on rows [n_problems, m, D_Y] of the other."""
    coefficients, residual = fit.directions.mT @ fitted, scored.clone()
    position = torch.arange(fit.directions.shape[-1], device=fitted.device)
    losses = torch.empty(fit.kept.shape, dtype=fitted.dtype, device=fitted.device)
    done = torch.zeros_like(fit.kept[:, :1])
    for a in range(fit.kept.shape[1] - 1, -1, -1):
        kept = fit.kept[:, a : a + 1]
        band = slice(int(done.min()) if len(done) else 0, int(kept.max()) if len(kept) else 0)
        inside = (position[band] >= done) & (position[band] < kept)
        left = torch.where(inside[..., None], fit.projected[:, band], 0.0)
        residual.baddbmm_(left.mT, coefficients[:, band], alpha=-1)
        # Equal cuts must have equal losses to the last bit, or rounding would break their tie.
        fresh = residual.square().mean(-2).sqrt().mean(-1)
        same = (kept == done)[:, 0] & (a + 1 < fit.kept.shape[1])
        losses[:, a] = torch.where(same, losses[:, min(a + 1, fit.kept.shape[1] - 1)], fresh)
        done = kept
    return losses
