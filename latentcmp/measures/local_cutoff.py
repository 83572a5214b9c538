"""Truncated SVD fits of many neighbourhoods at once, by their Gram matrices where rounding allows.

A Gram matrix knows a squared singular value to about eps of the largest one. Where that leaves a choice or a map
in doubt, and for that problem alone, the singular value decomposition of the rows themselves decides.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.ops.cutoff_losses import FoldFit, cutoff_losses
from latentcmp.ops.gram_spectra import GramSpectra, Spectrum
from latentcmp.ops.small_svd import small_svd

EPS = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny
RESOLVED = 1e-8
"""Least squared singular value, relative to the largest, at which losses by a Gram matrix are good to 1e-6."""
INVERTIBLE = 1e-10
"""The same for one map, which is refined against the rows."""
SEPARATED = 1e-7
"""Least distance of the squared singular values on both sides of a cut, relative to the largest."""


class Factors(NamedTuple):
    """Rows [b, n, D] as u s v', strongest first, and other rows along v over s: u [b, n, r], s [b, r], [b, r, m]."""

    u: Tensor
    s: Tensor
    projected: Tensor


def factors_of_gram(spectrum: Spectrum, cross: Tensor) -> Factors:
    """From the spectrum of the rows' Gram matrices and their inner products with other rows [b, n, m]."""
    squares, u = spectrum.squares.clamp(min=0), spectrum.directions
    return Factors(u, squares.sqrt(), u.mT @ cross / squares.clamp(min=TINY)[..., None])


def factors_of_rows(rows: Tensor, others: Tensor, rank: int) -> Factors:
    """From rows [b, n, D] and other rows [b, m, D]; at most `rank` directions."""
    u, s, vh = small_svd(rows)
    u, s, vh = u[..., :rank].contiguous(), s[:, :rank], vh[:, :rank]
    return Factors(u, s, vh @ others.mT / s.clamp(min=TINY)[..., None])


class LocalFolds:
    """Both folds of a batch of neighbourhoods, factorised once for every alpha and every target.

    near: the source's neighbourhoods, the first fold before the second. rows: [b, k] where they and the target's
    rows come from. alphas: [n_alphas] ascending relative strengths.
    """

    def __init__(self, near: GramSpectra, rows: Tensor, alphas: Tensor) -> None:
        n_first = near.first.directions.shape[1]
        self.x, self.rows, self.alphas = near.x.tensor_split([n_first], 1), rows.tensor_split([n_first], 1), alphas
        self.floor = max(near.x.shape[1:]) * EPS
        self.factors = [
            factors_of_gram(near.first, near.gram[:, :n_first, n_first:]),
            factors_of_gram(near.second, near.gram[:, n_first:, :n_first]),
        ]
        self.fits = self._fits()
        self.condition = self._condition()
        self._decompose((self.condition * RESOLVED > 1).nonzero()[:, 0])

    def strength(self, y: Tensor) -> Tensor:
        """The absolute strength [b] with the least loss for a target's training rows; ties go to the smallest."""
        losses = cutoff_losses(y, *self.fits)
        best = losses.amin(1, keepdim=True)
        rounding = 100 * EPS * self.condition[:, None] * losses.amax(1, keepdim=True)
        doubtful = ((losses > best) & (losses - best <= rounding)).any(1).nonzero()[:, 0]
        if len(doubtful):
            self._decompose(doubtful)
            losses[doubtful] = cutoff_losses(y, *(FoldFit(*(part[doubtful] for part in fit)) for fit in self.fits))
        return self.strengths.gather(1, losses.argmin(1, keepdim=True))[:, 0]

    @property
    def strengths(self) -> Tensor:
        """Every alpha times the largest singular value of the two folds: [b, n_alphas]."""
        return torch.maximum(*(factor.s[:, :1] for factor in self.factors)) * self.alphas

    def _condition(self) -> Tensor:
        """Largest squared singular value over the least that any alpha keeps: [b]."""
        least = torch.minimum(*(factor.s[:, -1] for factor in self.factors))
        top = torch.maximum(*(factor.s[:, 0] for factor in self.factors))
        return (top / torch.maximum(least, self.strengths[:, 0]).clamp(min=TINY)).square()

    def _fits(self) -> list[FoldFit]:
        least = self.strengths.clamp(min=self.floor)[..., None]
        return [
            FoldFit(rows.contiguous(), factor.u, factor.projected, (factor.s[:, None] > least).sum(-1))
            for rows, factor in zip(self.rows, self.factors, strict=True)
        ]

    def _decompose(self, problems: Tensor) -> None:
        """Replace the factors of some problems by those of their rows."""
        if not len(problems):
            return
        for side, factor in enumerate(self.factors):
            found = factors_of_rows(self.x[side][problems], self.x[1 - side][problems], factor.s.shape[1])
            for part, fresh in zip(factor, found, strict=True):
                part[problems] = fresh
        self.condition[problems] = 0
        self.fits = self._fits()


def local_weights(near: GramSpectra, query: Tensor, strengths: Tensor) -> Tensor:
    """What each neighbour counts for in the prediction at a query [b, D]: [b, t, k] for strengths [b, t].

    The prediction of centred target rows y [b, k, D_Y] is weights @ y. Singular values strictly above a strength
    are kept.
    """
    x, query = near.x, (query - near.mean)[:, None]
    factors = factors_of_gram(near.whole, x @ query.mT)
    weights = _filtered(factors, strengths, factors.projected.mT)
    missing = query - weights @ x
    squares = factors.s.square().clamp(min=TINY)[:, None]
    weights += _filtered(factors, strengths, missing @ x.mT @ factors.u / squares)
    doubtful = _doubtful(factors.s, strengths).nonzero()[:, 0]
    if len(doubtful):
        exact = factors_of_rows(x[doubtful], query[doubtful], factors.s.shape[1])
        weights[doubtful] = _filtered(exact, strengths[doubtful], exact.projected.mT)
    return weights


def _filtered(factors: Factors, strengths: Tensor, along: Tensor) -> Tensor:
    return torch.where(factors.s[:, None] > strengths[..., None], along, 0.0) @ factors.u.mT


def _doubtful(s: Tensor, strengths: Tensor) -> Tensor:
    """Problems [b] where rounding of the Gram matrix blurs a cut, or the inverse of what one of them keeps."""
    squares = torch.nn.functional.pad((s / s[:, :1]).square().nan_to_num(), (1, 1), value=0.0)
    kept = (s[:, None] > strengths[..., None]).sum(-1)
    last, next_ = squares.gather(1, kept), squares.gather(1, kept + 1)
    sound = (last > INVERTIBLE) & ((last - next_ > SEPARATED) | (kept == s.shape[1]))
    return ((kept > 0) & ~sound).any(1)
