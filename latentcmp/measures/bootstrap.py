"""What stands behind one error: its interval, its typical row, and whether one structure makes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 500
INTERVAL = (0.05, 0.95)
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Summary:
    """An error with its context.

    `value` is sqrt(mean e_i^2), `median` the median e_i, `low` and `high` the 90 % interval of `value` under a
    bootstrap over structures; `share` is the largest part of the squared error that one structure carries.
    """

    value: float
    median: float
    low: float
    high: float
    share: float
    culprit: str


class Owners:
    """Which structure each test row belongs to, and the bootstrap draws over the structures that all pairs share."""

    def __init__(self, labels: Sequence[str], seed: int = 0) -> None:
        self.names, codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        self.codes = torch.from_numpy(codes)
        self.counts = torch.from_numpy(np.bincount(codes, minlength=len(self.names))).double()
        self._seed = seed

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
        rng, n = np.random.default_rng(self._seed), len(sums)
        step = max(1, _BLOCK // n)
        values = []
        for start in range(0, RESAMPLES, step):
            draws = torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), min(step, RESAMPLES - start))).double()
            values.append((draws @ sums / (draws @ self.counts)).sqrt())
        low, high = torch.cat(values).quantile(torch.tensor(INTERVAL, dtype=torch.float64)).tolist()
        return low, high
