"""Errors between the layers of the checkpoints, from stored features, with the default recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from latentcmp import compare, compare_features
from latentcmp.features.stored import StoredFeatures
from latentcmp.measures.bootstrap import Summary
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.models.registry import parse

from .features import matrices

ORDER = 4

Pair = tuple[str, str]
"""Source and target."""


@dataclass(frozen=True)
class ErrorTables:
    """Errors between checkpoints, whose matrices are named MODEL@LAYER.

    `gfre` holds all checkpoints at both layers, `lfre` the last layers of some, and `orders`, by checkpoint, the GFRE
    from the descriptors of orders 1..i (row) to those of orders 1..j (column) at the last layer.
    """

    models: tuple[str, ...]
    gfre: ErrorMatrix
    lfre: ErrorMatrix
    orders: Mapping[str, ErrorMatrix]

    def error(self, source: str, target: str, layer: str = "last", target_layer: str = "") -> float:
        """GFRE from a layer of one checkpoint to the same or another layer of a checkpoint."""
        return self.gfre[f"{source}@{layer}", f"{target}@{target_layer or layer}"]

    def both(self, pair: Pair, layer: str = "last") -> tuple[float, float]:
        """GFRE of a pair in both directions."""
        first, second = pair
        return self.error(first, second, layer), self.error(second, first, layer)

    def cell(self, source: str, target: str, measure: str = "gfre") -> Summary:
        """The summary of an error between last layers, with its interval and its median."""
        matrix: ErrorMatrix = getattr(self, measure)
        row, column = (matrix.position(f"{model}@last") for model in (source, target))
        return matrix.summaries[row][column]

    def differ(self, pair: Pair) -> bool:
        """Whether the intervals of the two directions between last layers are disjoint."""
        there, back = self.cell(*pair), self.cell(*reversed(pair))
        return there.high < back.low or back.high < there.low

    def best_source(self, target: str) -> str:
        """The checkpoint whose last layer reconstructs that of another best."""
        others = [model for model in self.models if model != target]
        return min(others, key=lambda model: self.error(model, target))

    def pairs(self) -> list[Pair]:
        """All pairs of two checkpoints, each once."""
        return list(combinations(self.models, 2))

    def ordered(self, same_family: bool | None = None) -> list[Pair]:
        """All sources and targets, or those of one family (True) or of two (False)."""
        pairs = list(permutations(self.models, 2))
        return [pair for pair in pairs if same_family in (None, are_related(*pair))]


def are_related(first: str, second: str) -> bool:
    """Whether two checkpoints are of one family."""
    return parse(first).card.family == parse(second).card.family


def error_tables(
    models: Sequence[str], stores: Mapping[str, StoredFeatures], detailed: Sequence[str], seed: int
) -> ErrorTables:
    """Errors of all pairs of stored features; of the checkpoints `detailed` also local ones and those of orders."""
    values, groups = matrices(stores)
    gfre = compare_features(values, groups=groups, measures=["gfre"], seed=seed).gfre
    chosen = {model: f"{model}@last" for model in models if model in detailed}
    last = {name: values[name] for name in chosen.values()}
    lfre = compare_features(last, groups=groups, measures=["lfre"], seed=seed).lfre
    orders = {model: _orders(stores[name], seed) for model, name in chosen.items()}
    return ErrorTables(tuple(models), gfre, lfre, orders)


def _orders(store: StoredFeatures, seed: int) -> ErrorMatrix:
    found = compare([store], order=ORDER, device="cpu", measures=["gfre"], seed=seed, baselines="none").orders
    return next(iter(found.values()))
