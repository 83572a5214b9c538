"""Global errors of one source and all targets at once, from second-order statistics of the folds and the test part.

Targets stand side by side as columns. With b = S^-1 U'Y the weights of a fit along its singular directions V, and
H = V'X'XV, C = V'X'Y on the rows to predict, the squared error of column j with the first n directions is
||y_j||^2 + sum_{i <= n} b_ij ((L b)_ij - 2 C_ij), where L is H below its diagonal twice and on it once: one product
gives all cutoffs. From R factors the residuals themselves are formed, so that small errors keep all their digits.
The rules are those of `latentcmp.measures.cross_validation`.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from latentcmp._runtime.devices import batches_for, map_over_cores, map_stacked
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import SOLVERS, Solver
from latentcmp.ops.small_svd import small_svd

BAND = 128  # directions whose products with all before them are formed at a time
CANCELLED = 1e-6  # of a sum of squares: below it a difference of sums has lost too many digits
FITTED = ((0,), (1,), (0, 1))  # parts that a source is fitted on: each fold, and both


class Fit(NamedTuple):
    """A source factorised on some rows: s [r] descending, directions [D, r], coefficients U'Y [r, T]."""

    s: Tensor
    directions: Tensor
    coefficients: Tensor


class Missing(Protocol):
    """Squared errors of every target column on some rows, for weights b [r, T] along the directions of a fit."""

    def squares(self, b: Tensor) -> Tensor:
        """With all directions: [T]."""

    def path(self, b: Tensor, kept: Tensor) -> Tensor:
        """With the first kept[a] directions: [n_alphas, T]."""


class Source(Protocol):
    """A source and all targets on the three parts: 0 fold 1, 1 fold 2, 2 test."""

    def matrix(self, parts: Sequence[int]) -> Tensor:
        """What is factorised to fit the source on the rows of some parts together."""

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        """The factors of a stack of matrices, of one source or of several."""

    def fit(self, parts: Sequence[int], factors: Sequence[Tensor]) -> Fit:
        """The fit, from the factors of its matrix."""

    def missing(self, part: int, fit: Fit) -> Missing:
        """What maps of a fit lack on a part."""


class GramMissing(NamedTuple):
    """`Missing` from moments: H [r, r], C [r, T] and the squares [T] of the targets."""

    h: Tensor
    c: Tensor
    total: Tensor

    def squares(self, b: Tensor) -> Tensor:
        return (self.total + (b * (self.h @ b - 2 * self.c)).sum(0)).clamp(min=0)

    def path(self, b: Tensor, kept: Tensor) -> Tensor:
        lower = self.h.tril(-1).mul_(2) + self.h.diagonal().diag()
        steps = torch.empty_like(b)
        for start in range(0, len(b), BAND):
            stop = min(start + BAND, len(b))
            band = slice(start, stop)
            torch.addmm(self.c[band], lower[band, :stop], b[:stop], beta=-2, out=steps[band])
        steps *= b
        inside = torch.arange(len(b), device=b.device) < kept[:, None]
        return torch.addmm(self.total, inside.to(b.dtype), steps).clamp_(min=0)


class GramSource:
    """`Source` from Gram matrices [3, d, d] of all matrices side by side, centred and scaled."""

    def __init__(self, grams: Tensor, columns: slice) -> None:
        self.grams, self.columns = grams, columns

    @classmethod
    def of_all(cls, grams: Tensor, columns: Iterable[slice]) -> "list[GramSource]":
        """One for the columns of every matrix."""
        return [cls(grams, chosen) for chosen in columns]

    def matrix(self, parts: Sequence[int]) -> Tensor:
        return self._sum(parts)[:, self.columns]

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        values, vectors = torch.linalg.eigh(matrices)
        return values.clamp(min=0).sqrt().flip(-1), vectors.flip(-1)

    def fit(self, parts: Sequence[int], factors: Sequence[Tensor]) -> Fit:
        s, directions = factors
        return Fit(s, directions, (directions * torch.where(s > 0, 1 / s, 0.0)).mT @ self._sum(parts))

    def missing(self, part: int, fit: Fit) -> GramMissing:
        c = fit.directions.mT @ self.grams[part, self.columns]
        return GramMissing(c[:, self.columns] @ fit.directions, c, self.grams[part].diagonal())

    def _sum(self, parts: Sequence[int]) -> Tensor:
        return reduce(torch.add, (self.grams[part, self.columns] for part in parts))


class FactorMissing(NamedTuple):
    """`Missing` from rows: the source along the directions [m, r], targets [m, T], and squares [T] out of its reach."""

    source: Tensor
    targets: Tensor
    beyond: Tensor

    def squares(self, b: Tensor) -> Tensor:
        return torch.addmm(self.targets, self.source, b, alpha=-1).square_().sum(0) + self.beyond

    def path(self, b: Tensor, kept: Tensor) -> Tensor:
        residual, done = self.targets.clone(), 0
        squares: list[Tensor] = []
        for stop in kept.flip(0).tolist():
            if stop > done or not squares:
                residual.addmm_(self.source[:, done:stop], b[done:stop], alpha=-1)
                squares.append(residual.square().sum(0) + self.beyond)
            else:
                squares.append(squares[-1])
            done = stop
        return torch.stack(squares[::-1])


class FactorSource:
    """`Source` from R factors [3, 1 + d, d] of all matrices side by side, centred and scaled: zero below row j + 1.

    Each is turned so that the source has D rows of its own; of what targets have in the other rows, no map of the
    source can give anything, and only its squares are kept. `squares` [3, d] are those of whole columns.
    """

    def __init__(self, factors: Tensor, squares: Tensor, columns: slice) -> None:
        self.factors, self.squares, self.columns = factors, squares, columns

    @classmethod
    def of_all(cls, factors: Tensor, columns: Iterable[slice]) -> "list[FactorSource]":
        """One for the columns of every matrix."""
        squares = _squares(factors)
        return [cls(factors, squares, chosen) for chosen in columns]

    @cached_property
    def parts(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [_turned(*part, self.columns) for part in zip(self.factors, self.squares, strict=True)]

    def matrix(self, parts: Sequence[int]) -> Tensor:
        return torch.cat([self.parts[part][0] for part in parts]).mT

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        return small_svd(matrices)

    def fit(self, parts: Sequence[int], factors: Sequence[Tensor]) -> Fit:
        directions, s, left = factors
        return Fit(s, directions, left @ torch.cat([self.parts[part][1] for part in parts]))

    def missing(self, part: int, fit: Fit) -> FactorMissing:
        source, targets, beyond = self.parts[part]
        return FactorMissing(source @ fit.directions, targets, beyond)


def _turned(factor: Tensor, total: Tensor, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
    head, tail = factor[: columns.stop + 1], factor[columns.stop + 1 :]
    q, r = torch.linalg.qr(head[:, columns])
    targets = q.mT @ head
    targets[:, columns] = r
    beyond = total - _squares(targets)
    lost = (beyond < CANCELLED * total).nonzero()[:, 0]
    beyond[lost] = _squares(head[:, lost] - q @ targets[:, lost]) + _squares(tail[:, lost])
    return r, targets, beyond


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(-2)


def all_global_errors(
    sources: Sequence[Source],
    widths: Sequence[int],
    counts: Sequence[int],
    alphas: Tensor,
    solver: Solver = "cutoff",
    unseen: float = 0.0,
) -> Tensor:
    """GFRE of all ordered pairs [n_names, n_names], sources in rows.

    `widths` are the columns of the matrices, `counts` the true rows of fold 1, fold 2 and test, `alphas` ascending
    relative strengths on the device of the statistics. Singular values within `unseen` of the largest are left out.
    Raises InputError for an unknown solver.
    """
    if solver not in SOLVERS:
        raise InputError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    n_first, n_second, n_test = counts

    def errors_of(source: Source, factors: Iterable[Sequence[Tensor]]) -> Tensor:
        first, second, full = (source.fit(parts, found) for parts, found in zip(FITTED, factors, strict=True))
        strengths = torch.maximum(first.s[0], second.s[0]) * alphas
        least = unseen * torch.maximum(first.s[0], second.s[0])
        rounding = max(n_first + n_second, len(first.directions)) * torch.finfo(alphas.dtype).eps
        losses = torch.zeros(len(alphas), len(widths), dtype=alphas.dtype, device=alphas.device)
        for fit, other, n in ((first, 1, n_second), (second, 0, n_first)):
            squares = _path(solver, fit, source.missing(other, fit), strengths, least.clamp(min=rounding))
            losses += torch.stack([part.mean(1) for part in (squares / n).sqrt_().split(list(widths), 1)], 1)
        chosen = strengths[losses.argmin(0)].repeat_interleave(torch.tensor(widths, device=alphas.device))
        missing = source.missing(2, full).squares(_weights(solver, full, chosen, least))
        return torch.stack([part.sum() for part in missing.split(list(widths))]).div_(n_test).sqrt_()

    def errors_of_all(members: Sequence[Source]) -> list[Tensor]:
        matrices = [source.matrix(parts) for source in members for parts in FITTED]
        factors = iter(map_stacked(members[0].factorise, matrices))
        return [errors_of(source, islice(factors, len(FITTED))) for source in members]

    batches = map_over_cores(errors_of_all, batches_for(sources, alphas.device), alphas.device)
    return torch.stack([errors for batch in batches for errors in batch])


def _path(solver: Solver, fit: Fit, missing: Missing, strengths: Tensor, floor: Tensor) -> Tensor:
    """Squared errors at every strength: [n_alphas, T]."""
    if solver == "ridge":
        return torch.stack([missing.squares(_weights(solver, fit, strength, floor)) for strength in strengths])
    kept = (fit.s > torch.maximum(strengths, floor)[:, None]).sum(1)
    return missing.path(_weights(solver, fit, floor, floor), kept)


def _weights(solver: Solver, fit: Fit, strength: Tensor, floor: Tensor) -> Tensor:
    """Weights [r, T] along the directions of a fit at one strength, or one a column [T]."""
    s = fit.s[:, None]
    kept = s > (torch.maximum(strength, floor) if solver == "cutoff" else floor)
    inverse = 1 / s if solver == "cutoff" else s / (s.square() + strength)
    return torch.where(kept, inverse, 0.0) * fit.coefficients
