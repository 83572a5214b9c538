"""Summaries of row errors: interval, median, and the structure with the largest share of the squared error."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 500
INTERVAL = (0.05, 0.95)
_BLOCK = 1 << 22  # numbers drawn at a time
_KEPT = 1 << 23  # numbers of draws kept for the next errors: 64 MiB


@dataclass(frozen=True)
class Summary:
    """An error with its context.

    Args:
        value: sqrt(mean e_i^2) of the row errors e_i.
        median: the median of e_i.
        low: the lower end of the 90 % interval of `value`.
        high: its upper end.
        share: the largest share of the squared error that one structure has.
        culprit: the name of that structure.
    """

    value: float
    median: float
    low: float
    high: float
    share: float
    culprit: str


class Owners:
    """The structure and the group of each test row, and bootstrap draws over the groups, the same for all errors.

    Args:
        labels: [n_test] names of structures.
        seed: seed of the draws.
        groups: [n_test] numbers of groups; None: every structure is its own.
    """

    def __init__(self, labels: Sequence[str], seed: int = 0, groups: np.ndarray | None = None) -> None:
        self.names, codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        self.codes = torch.from_numpy(codes)
        drawn = codes if groups is None else np.unique(groups, return_inverse=True)[1]
        self.groups = self.codes if groups is None else torch.from_numpy(drawn)
        self.counts = torch.from_numpy(np.bincount(drawn)).double()
        self._seed = seed
        self._kept: list[tuple[Tensor, Tensor]] = []

    def summarise(self, errors: Tensor, resample: bool = True) -> Summary:
        """The summary of row errors [n_test]; without resampling the ends of its interval are NaN."""
        squared = errors.double().cpu().square()
        of_structures = torch.bincount(self.codes, squared, len(self.names))
        of_groups = of_structures if self.groups is self.codes else torch.bincount(self.groups, squared)
        total, worst = float(squared.numpy().sum()), int(of_structures.argmax())  # in the order of rows, on one thread
        low, high = self._interval(of_groups) if resample else (math.nan, math.nan)
        share = float(of_structures[worst]) / total if total else 0.0
        median = float(squared.median().sqrt())
        return Summary((total / len(squared)) ** 0.5, median, low, high, share, str(self.names[worst]))

    def _interval(self, sums: Tensor) -> tuple[float, float]:
        values = [(draws @ sums / sizes).sqrt() for draws, sizes in self._kept or self._draws()]
        low, high = torch.cat(values).quantile(torch.tensor(INTERVAL, dtype=torch.float64)).tolist()
        return low, high

    def _draws(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Counts of the groups [m, n_groups] and of the rows [m] in each resample of a block; kept where few."""
        rng, n = np.random.default_rng(self._seed), len(self.counts)
        step, kept = max(1, _BLOCK // n), []
        for start in range(0, RESAMPLES, step):
            drawn = rng.multinomial(n, np.full(n, 1 / n), min(step, RESAMPLES - start))
            draws = torch.from_numpy(drawn).double()
            kept.append((draws, draws @ self.counts))
            yield kept[-1]
            if RESAMPLES * n > _KEPT:
                kept.clear()
        self._kept = kept
