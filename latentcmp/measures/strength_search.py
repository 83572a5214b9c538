"""Choice of the regularisation strength of every map by the folds of groups, from Gram matrices.

A map is fitted on all inner folds but one, and its total squared error is measured on that one. With C = X'Y, the
eigendecomposition X'X = V L V' and the filter f of a strength, the map is V f(L) V'C. Its squared error on held-out
rows of moments H = V'X'XV and Q = V'X'Y is tr(Y'Y) - 2 f.diag(P Q') + f'(H o P P')f with P = V'C: one product with
P P' gives the errors of all strengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import SOLVERS, Solver, checked_alphas
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import Fold

TINY = torch.finfo(torch.float64).tiny
LEAST = {"ridge": 1e-3, "cutoff": 1e-4}
"""The smallest strength of the default grids: smaller ones follow noise of the features."""
LEAST_DRIFT, LEAST_LOCAL_DRIFT = 1e-5, 1e-2
"""The smallest strength of global and of local maps between states of one model, whose errors are small."""
N_STRENGTHS = 10


def default_strengths(solver: Solver = "ridge", least: float | None = None) -> np.ndarray:
    """The default grid: 10 strengths, relative to the largest singular value, from `least` to 0.9."""
    return np.geomspace(least or LEAST[solver], 0.9, N_STRENGTHS)


@dataclass(frozen=True)
class FoldRules:
    """How maps between groups of rows are regularised.

    Attributes:
        solver: "ridge" (Tikhonov, filter 1 / (l + t^2 l_max) of an eigenvalue l) or "cutoff" (1 / l above t^2 l_max).
        strengths: [n_strengths] ascending t, relative to the largest singular value of the rows that are fitted.
    """

    solver: Solver
    strengths: Tensor

    @classmethod
    def of(cls, solver: Solver, strengths: np.ndarray | None, device: torch.device) -> "FoldRules":
        """Check the solver and the grid (None: its default). Raises InputError."""
        if solver not in SOLVERS:
            raise InputError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
        grid = default_strengths(solver) if strengths is None else checked_alphas(strengths)
        return cls(solver, torch.from_numpy(grid).to(device))

    def filters(self, values: Tensor, strengths: Tensor) -> Tensor:
        """Return the filter [..., r] of ascending eigenvalues [r] for strengths [...]."""
        cut = strengths[..., None].square() * values[-1]
        if self.solver == "ridge":
            return 1 / (values.clamp(min=0) + cut).clamp(min=TINY)
        return torch.where(values > cut.clamp(min=TINY), 1 / values, 0.0)


@dataclass(frozen=True)
class _Use:
    """A held-out inner fold, and the outer fold whose strength it helps to choose."""

    outer: int
    held: tuple[int, ...]


def select_strengths(
    moments: PartMoments, folds: Sequence[Fold], rules: FoldRules, sources: Sequence[str]
) -> list[dict[str, Tensor]]:
    """Choose the strength of the map of every source to every target, for each fold.

    Args:
        moments: moments of the parts.
        folds: each with at least two inner training folds.
        rules: the solver and the grid.
        sources: names of the sources; all matrices are targets.

    Returns:
        For each fold {source: [n_targets]} the strengths of least total squared error; ties go to the smallest.
    """
    uses: dict[tuple[int, ...], list[_Use]] = {}
    for outer, fold in enumerate(folds):
        for held in fold.train:
            inner = tuple(sorted(part for parts in fold.train if parts != held for part in parts))
            uses.setdefault(inner, []).append(_Use(outer, held))
    tasks = [(source, inner) for inner in uses for source in sources]
    found = map_over_cores(
        lambda task: _losses(moments, rules, task[0], task[1], uses[task[1]]), tasks, moments.grams.device
    )
    totals: list[dict[str, Tensor]] = [{} for _ in folds]
    for (source, inner), losses in zip(tasks, found, strict=True):
        for use, of_use in zip(uses[inner], losses, strict=True):
            of_fold = totals[use.outer]
            of_fold[source] = of_fold[source] + of_use if source in of_fold else of_use
    return [{name: rules.strengths[total.argmin(1)] for name, total in of_fold.items()} for of_fold in totals]


def _losses(
    moments: PartMoments, rules: FoldRules, source: str, inner: tuple[int, ...], uses: Sequence[_Use]
) -> list[Tensor]:
    """Total squared errors [n_targets, n_strengths] of the maps fitted on `inner`, for each use."""
    x, mean = moments.columns[source], moments.mean(inner)
    fitted = moments.gram_about(inner, mean, x)
    values, vectors = torch.linalg.eigh(fitted[:, x])
    along = vectors.mT @ fitted
    products = torch.stack([of_target @ of_target.mT for of_target in along.split_with_sizes(moments.widths, 1)])
    filters = rules.filters(values, rules.strengths)
    return [_losses_on(moments, use.held, mean, x, vectors, along, products, filters) for use in uses]


def _losses_on(
    moments: PartMoments,
    held: tuple[int, ...],
    mean: Tensor,
    x: slice,
    vectors: Tensor,
    along: Tensor,
    products: Tensor,
    filters: Tensor,
) -> Tensor:
    test = moments.gram_about(held, mean, x)
    quadratic = (vectors.mT @ test[:, x] @ vectors) * products
    crossed = along * (vectors.mT @ test)
    linear = torch.stack([of_target.sum(1) for of_target in crossed.split_with_sizes(moments.widths, 1)])
    squares = moments.squares_about(held, mean).split_with_sizes(moments.widths)
    totals = torch.stack([of_target.sum() for of_target in squares])[:, None]
    losses: Tensor = totals - 2 * linear @ filters.mT + ((filters @ quadratic) * filters).sum(-1)
    return losses
