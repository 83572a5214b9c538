"""Summaries of row errors: interval, median, and the structure with the largest share of the squared error."""

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
        low: the lower end of the 90 % interval of `value` under a bootstrap over structures.
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
    """The structure of each test row, and bootstrap draws over the structures, the same for all errors.

    Args:
        labels: [n_test] names of structures.
        seed: seed of the draws.
    """

    def __init__(self, labels: Sequence[str], seed: int = 0) -> None:
        self.names, codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        self.codes = torch.from_numpy(codes)
        self.counts = torch.from_numpy(np.bincount(codes, minlength=len(self.names))).double()
        self._seed = seed
        self._kept: list[Tensor] = []

    def summarise(self, errors: Tensor) -> Summary:
        """The summary of row errors [n_test]."""
        squared = errors.double().cpu().square()
        sums = torch.zeros_like(self.counts).index_add_(0, self.codes, squared)
        total, worst = float(sums.sum()), int(sums.argmax())
        low, high = self._interval(sums)
        share = float(sums[worst]) / total if total else 0.0
        median = float(squared.median().sqrt())
        return Summary((total / len(squared)) ** 0.5, median, low, high, share, str(self.names[worst]))

    def _interval(self, sums: Tensor) -> tuple[float, float]:
        values = [(draws @ sums / (draws @ self.counts)).sqrt() for draws in self._kept or self._draws()]
        low, high = torch.cat(values).quantile(torch.tensor(INTERVAL, dtype=torch.float64)).tolist()
        return low, high

    def _draws(self) -> Iterator[Tensor]:
        """Counts of the structures in each resample, [m, n_structures] a block; kept where they are few."""
        rng, n = np.random.default_rng(self._seed), len(self.counts)
        step, kept = max(1, _BLOCK // n), []
        for start in range(0, RESAMPLES, step):
            drawn = rng.multinomial(n, np.full(n, 1 / n), min(step, RESAMPLES - start))
            kept.append(torch.from_numpy(drawn).double())
            yield kept[-1]
            if RESAMPLES * n > _KEPT:
                kept.clear()
        self._kept = kept
