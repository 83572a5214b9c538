"""Two-fold losses in PyTorch: the oracle of the kernels, and the backend that is always available."""

from collections.abc import Callable
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


def _losses(fit: FoldFit, fitted: Tensor, held_out: Tensor) -> Tensor:
    """One fold fitted to [n_problems, n, D_Y] and scored on the other one [n_problems, m, D_Y]."""
    coefficients = fit.directions.mT @ fitted
    return truncation_path(fit.projected.mT, coefficients, held_out, fit.kept.T, mean_rmse).T.contiguous()


def mean_rmse(residual: Tensor) -> Tensor:
    """Mean over columns of the root mean square over rows: [..., m, T] to [...]."""
    return residual.square().mean(-2).sqrt().mean(-1)


def truncation_path(
    source: Tensor, weights: Tensor, target: Tensor, kept: Tensor, score: Callable[[Tensor], Tensor]
) -> Tensor:
    """Score the residual of a truncated fit at every cutoff.

    Directions are subtracted from the residual from the strongest to the weakest, so all cutoffs together cost one
    product. Residuals are formed, not differences of sums of squares, so small errors keep all their digits. Equal
    cutoffs of a problem have scores equal to the last bit, which keeps their tie.

    Args:
        source: [b, m, r] or [m, r], the rows to predict along each direction, strongest first.
        weights: [b, r, T] or [r, T], the weight of each direction in each column.
        target: [b, m, T] or [m, T].
        kept: [n_alphas, b] or [n_alphas] int64, the leading directions each alpha keeps, not increasing with alpha.
        score: maps a residual, of the target's shape, to [b, ...] or [...].

    Returns:
        [n_alphas, b, ...] or [n_alphas, ...], the scores.
    """
    residual, cuts = target.clone(), kept.cpu()
    done, scores = torch.zeros_like(cuts[0]), list[Tensor]()
    for a in range(len(cuts) - 1, -1, -1):
        added = cuts[a] > done
        if bool(added.any()):
            band = slice(int(done[added].min()), int(cuts[a].max()))
            subtract_product_(residual, _inside(source, band, done, cuts[a]), weights[..., band, :])
        scores.append(score(residual) if bool(added.any()) or not scores else scores[-1])
        done = cuts[a]
    return torch.stack(scores[::-1])


def _inside(source: Tensor, band: slice, start: Tensor, stop: Tensor) -> Tensor:
    """The directions of a band, zero where a problem does not add them."""
    if source.dim() == 2:
        return source[:, band]
    position = torch.arange(band.start, band.stop)
    inside = ((position >= start[:, None]) & (position < stop[:, None])).to(source.device)
    return torch.where(inside[:, None, :], source[..., band], 0.0)


def subtract_product_(residual: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Subtract left @ right in place: of matrices, or of batches of matrices."""
    subtract = residual.addmm_ if residual.dim() == 2 else residual.baddbmm_
    return subtract(left, right, alpha=-1)
