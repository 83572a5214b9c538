"""Local ridge maps in PyTorch: the oracle of the kernels, and the backend that is always available."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.ops.gram_spectra import GramSpectra, Spectrum
from latentcmp.ops.gram_spectra.reference import gram_spectra_reference

LOWEST_EXPONENT = -1000
"""Rows with smaller differences are not scaled to 1; as a source they count as equal."""
ROUNDING = 1e-28
"""Share of the trace below which the rows of a fold are at the mean but for rounding."""
TIE = 1e-13
"""Difference of losses, relative to the squares of the target, below which they are equal."""


class ScaledRows(NamedTuple):
    """Rows of b problems less their first row, times a power of two so that no square overflows, and their mean.

    Attributes:
        rows: [b, k, D] float64, minus their mean.
        mean: [b, D], scaled.
        pivot: [b, D], the first row, not scaled.
        exponent: [b] float64; differences are divided by two to this power.
        largest: [b], the largest magnitude of a difference, not scaled.
    """

    rows: Tensor
    mean: Tensor
    pivot: Tensor
    exponent: Tensor
    largest: Tensor

    @classmethod
    def of(cls, x: Tensor, rows: Tensor) -> ScaledRows:
        """Gather rows [b, k] of x [n, D]."""
        near, pivot = x[rows], x[rows[:, 0]]
        near -= pivot[:, None]
        largest = near.abs().amax((1, 2))
        exponent = _exponent(largest)
        near *= torch.exp2(-exponent)[:, None, None]
        mean = near.mean(1)
        return cls(near - mean[:, None], mean, pivot, exponent, largest)


class RidgeFold(NamedTuple):
    """One fold of the source of every problem, decomposed for every strength and target.

    Attributes:
        directions: [b, n, r] eigenvectors U of the Gram matrix of the fold's rows.
        projected: [b, r, m], U' times the inner products with the m rows of the other fold.
        filters: [b, s, r], 1 / (eigenvalue + t^2 largest eigenvalue) for every strength t.
    """

    directions: Tensor
    projected: Tensor
    filters: Tensor

    @classmethod
    def of(cls, spectrum: Spectrum, cross: Tensor, strengths: Tensor, least: Tensor) -> RidgeFold:
        """From a spectrum and inner products [b, n, m]; filters are 0 where no eigenvalue is above `least` [b]."""
        u = spectrum.directions
        filters = filters_of(spectrum.squares, strengths)
        apart = spectrum.squares.clamp(min=0).sum(1) > least
        return cls(u, u.mT @ cross, torch.where(apart[:, None, None], filters, 0.0))


Losses = Callable[[RidgeFold, Tensor, bool], Tensor]
"""Squared errors [b, s] on the other fold, given target rows [b, k, T] and whether the fold is the second one."""


def local_ridge_reference(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: Sequence[Tensor],
    y_test: Sequence[Tensor],
    strengths: Tensor,
) -> Tensor:
    """As `local_ridge`."""
    return errors_of_targets(x, query, rows, n_first, y_train, y_test, strengths, gram_spectra_reference, fold_losses)


def errors_of_targets(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: Sequence[Tensor],
    y_test: Sequence[Tensor],
    strengths: Tensor,
    spectra: Callable[[Tensor, Tensor, int], GramSpectra],
    losses: Losses,
) -> Tensor:
    """`local_ridge` by two kernels: spectra of the source's Gram matrices, and squared errors of one fold."""
    near = ScaledRows.of(x, rows)
    positions = torch.arange(rows.numel(), device=rows.device).view(rows.shape)
    decomposed = spectra(near.rows.flatten(0, 1), positions, n_first)
    folds, weights = _folds(decomposed, n_first, strengths), _weights(near, decomposed, query, strengths)
    errors = x.new_empty((len(y_train), len(rows)))
    for error, train, test in zip(errors, y_train, y_test, strict=True):
        y = ScaledRows.of(train, rows)
        loss = losses(folds[0], y.rows, False) + losses(folds[1], y.rows, True)
        best = chosen_strength(loss, y.rows.square().sum((1, 2)))
        chosen = weights.gather(1, best[:, None, None].expand(-1, -1, rows.shape[1]))
        error.copy_(residual_norm(y, test, (chosen @ y.rows)[:, 0]))
    return errors


def filters_of(squares: Tensor, strengths: Tensor) -> Tensor:
    """1 / (w + t^2 max(w)) for eigenvalues w [b, r] and strengths t [s]: [b, s, r]; 0 where all are 0."""
    w = squares.clamp(min=0)[:, None]
    top = w.amax(-1, keepdim=True)
    return torch.where(top > 0, 1 / (w + strengths.square()[:, None] * torch.where(top > 0, top, 1.0)), 0.0)


def fold_losses(fold: RidgeFold, y: Tensor, second: bool) -> Tensor:
    """Squared errors [b, s] on the other fold: the quadratic form |y_o|^2 - 2 f.a + f'(H o G)f in the filters f."""
    n = fold.directions.shape[1]
    fitted, held_out = (y[:, -n:], y[:, :-n]) if second else (y[:, :n], y[:, n:])
    along = fold.directions.mT @ fitted
    linear = ((fold.projected @ held_out) * along).sum(-1)
    form = (fold.projected @ fold.projected.mT) * (along @ along.mT)
    f = fold.filters
    return held_out.square().sum((1, 2))[:, None] + ((f @ form - 2 * linear[:, None]) * f).sum(-1)


def chosen_strength(losses: Tensor, squares: Tensor) -> Tensor:
    """The position [b] of the least loss [b, s], of the smallest strength where rounding does not tell them apart."""
    best = losses.amin(1)
    limit = best + TIE * (squares + best.abs())
    return (losses <= limit[:, None]).int().argmax(1)


def residual_norm(y: ScaledRows, test: Tensor, prediction: Tensor) -> Tensor:
    """Norms [b] of the residuals of test rows [b, T] for predictions of centred, scaled rows."""
    residual = test - y.pivot - (y.mean + prediction) * torch.exp2(y.exponent)[:, None]
    exponent = torch.exp2(_exponent(residual.abs().amax(1)))
    norms: Tensor = (residual / exponent[:, None]).norm(dim=1) * exponent
    return norms


def _folds(near: GramSpectra, n_first: int, strengths: Tensor) -> tuple[RidgeFold, RidgeFold]:
    cross = near.gram[:, :n_first, n_first:]
    least = ROUNDING * near.gram.diagonal(dim1=1, dim2=2).sum(1)
    return (
        RidgeFold.of(near.first, cross, strengths, least),
        RidgeFold.of(near.second, cross.mT, strengths, least),
    )


def _weights(near: ScaledRows, decomposed: GramSpectra, query: Tensor, strengths: Tensor) -> Tensor:
    """Weights [b, s, k] of the centred rows in the prediction at a query [b, D]; 0 where the rows are equal."""
    away = query - near.pivot
    apart = (near.largest > away.abs().amax(1) * 2.0 ** (LOWEST_EXPONENT // 2)) & (near.exponent > LOWEST_EXPONENT)
    centred = away * torch.where(apart, torch.exp2(-near.exponent), 0.0)[:, None] - near.mean
    u = decomposed.whole.directions
    along = u.mT @ (near.rows @ centred[..., None])
    weights = (filters_of(decomposed.whole.squares, strengths) * along.mT) @ u.mT
    return torch.where(apart[:, None, None], weights, 0.0)


def _exponent(largest: Tensor) -> Tensor:
    exponent = torch.where(largest > 0, torch.frexp(largest).exponent, LOWEST_EXPONENT)
    return exponent.clamp(min=LOWEST_EXPONENT).double()
