"""A finding beside the figures here, and how figures and criteria are put into words."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Literal, NamedTuple

from .features import LAYERS
from .tables import ErrorTables, Pair

Answer = Literal["yes", "partly", "no", "not asked"]


class Finding(NamedTuple):
    """A finding of the paper, and the figures here by name.

    `why` states the criterion and how it came out, `at_seeds` the answer with every seed of the folds.
    """

    finding: str
    paper: str
    figures: dict[str, float]
    agrees: Answer
    why: str
    at_seeds: dict[int, Answer] | None = None

    @property
    def answer(self) -> str:
        """The answer, with those of the seeds that give another one."""
        seeds = self.at_seeds or {}
        others = [f"{answer} with seed {seed}" for seed, answer in seeds.items() if answer != self.agrees]
        return "; ".join([self.agrees, *others])


def with_seeds(by_seed: dict[int, list[Finding]]) -> list[Finding]:
    """The findings of the first seed, with the answers of all seeds."""
    same = zip(*by_seed.values(), strict=True)
    return [of[0]._replace(at_seeds={s: f.agrees for s, f in zip(by_seed, of, strict=True)}) for of in same]


def graded(*criteria: bool) -> Answer:
    """Yes where all criteria hold, partly where some do."""
    return "yes" if all(criteria) else "partly" if any(criteria) else "no"


def gap(errors: tuple[float, float]) -> float:
    """The difference of the two directions of a pair."""
    return abs(errors[0] - errors[1])


def directions(tables: ErrorTables, pairs: Iterable[Pair], layer: str = "last") -> dict[str, float]:
    """Errors of pairs in both directions, by source and target."""
    ordered = [(source, target) for a, b in pairs for source, target in ((a, b), (b, a))]
    return {f"{source} -> {target}": tables.error(source, target, layer) for source, target in ordered}


def of_layers(tables: ErrorTables, pair: Pair) -> dict[str, float]:
    """Errors of a pair in both directions at both layers."""
    return {f"{name}, {layer}": error for layer in LAYERS for name, error in directions(tables, [pair], layer).items()}


def spread_of(name: str, errors: list[float]) -> dict[str, float]:
    """The least, the mean and the largest of errors."""
    return {f"{name}, least": min(errors), f"{name}, mean": fmean(errors), f"{name}, largest": max(errors)}


def by_layer(passed: dict[str, bool]) -> str:
    """Whether a criterion holds, layer by layer."""
    return ", ".join(f"{layer} {yes_or_no(value)}" for layer, value in passed.items())


def yes_or_no(passed: bool) -> str:
    return "yes" if passed else "no"
