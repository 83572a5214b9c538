"""Losses of local cutoffs in plain torch: the oracle of the kernels and the backend that is always there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from latentcmp.ops.cutoff_losses import FoldFit


def cutoff_losses_reference(y: Tensor, first: FoldFit, second: FoldFit) -> Tensor:
    """Losses [n_problems, n_alphas] as in ``cutoff_losses``."""
    rows = y[torch.cat([first.rows, second.rows], 1)]
    rows -= rows.mean(1, keepdim=True)
    parts = rows.split([first.rows.shape[1], second.rows.shape[1]], dim=1)
    return (_losses(first, *parts) + _losses(second, *reversed(parts))) / 2


def _losses(fit: FoldFit, known: Tensor, missing: Tensor) -> Tensor:
    """One fold fitted to known [n_problems, n, D_Y] and scored on missing [n_problems, m, D_Y]."""
    coefficients, residual = fit.directions.mT @ known, missing.clone()
    position = torch.arange(fit.directions.shape[-1], device=known.device)
    losses = torch.empty(fit.kept.shape, dtype=known.dtype, device=known.device)
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
