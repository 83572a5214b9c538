"""The fit of one source to all targets at once.

Targets stand side by side as T columns. A source has three parts, fold 1, fold 2 and test (`RowPart`), and is fitted on
each fold and on both. It comes from rows or R factors (`latentcmp.measures.row_source`) or from Gram matrices
(`latentcmp.measures.gram_source`); the rules are those of `latentcmp.measures.cross_validation`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from latentcmp._runtime.devices import map_stacked
from latentcmp.measures.cross_validation import Fit, Fold, Residual, TwoFoldCV
from latentcmp.systems.folds import RowPart

Parts = tuple[int, ...]
TRAINING: Parts = (RowPart.FOLD_1, RowPart.FOLD_2)
FITTED: tuple[Parts, ...] = ((RowPart.FOLD_1,), (RowPart.FOLD_2,), TRAINING)


class Source(Protocol):
    """A source and all targets on the three parts, centred and scaled, float64."""

    def matrix(self, parts: Parts) -> Tensor:
        """What is factorised to fit the source on the rows of some parts together."""

    @staticmethod
    def factorise(matrices: Tensor) -> tuple[Tensor, ...]:
        """The factors of a stack of matrices, of one source or of several."""

    def fit(self, parts: Parts, factors: Sequence[Tensor]) -> Fit:
        """The fit, from the factors of its matrix."""

    def residual(self, part: int, directions: Tensor) -> Residual:
        """The residual on a part of maps along the directions of a fit."""

    def rows(self, parts: Parts) -> Tensor:
        """Rows [..., m, D] with the inner products of the source's rows in some parts."""


AnySource = TypeVar("AnySource", bound=Source)


class LinearMap(NamedTuple):
    """A fitted map of one source to all targets: directions [..., D, r], weights [..., r, T]."""

    directions: Tensor
    weights: Tensor

    def predict(self, rows: Tensor) -> Tensor:
        """Map rows [..., m, D] of the source: [..., m, T]."""
        return (rows @ self.directions) @ self.weights


def fit_maps(
    sources: Sequence[AnySource], widths: Sequence[int], counts: Sequence[int], rules: TwoFoldCV
) -> Iterator[LinearMap]:
    """Fit the map of every source to all targets, with one call for all factorisations of a shape.

    Args:
        sources: of one class.
        widths: the columns of each target.
        counts: the rows of fold 1 and of fold 2.
        rules: how strengths are chosen.
    """
    factors = iter(map_stacked(sources[0].factorise, [source.matrix(parts) for source in sources for parts in FITTED]))
    for source in sources:
        yield fit_map(source, [next(factors) for _ in FITTED], widths, counts, rules)


def fit_map(
    source: Source, factors: Sequence[Sequence[Tensor]], widths: Sequence[int], counts: Sequence[int], rules: TwoFoldCV
) -> LinearMap:
    """Fit a map as `fit_maps` does, from the factors of the source on each of `FITTED`."""
    first, second, full = (source.fit(*pair) for pair in zip(FITTED, factors, strict=True))
    folds = (
        Fold(first, source.residual(RowPart.FOLD_2, first.directions), counts[1]),
        Fold(second, source.residual(RowPart.FOLD_1, second.directions), counts[0]),
    )
    return LinearMap(full.directions, rules.weights(folds, full, widths))
