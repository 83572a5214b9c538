"""Local reconstruction beside scikit-matter, which is called once for each pair.

What is compared is the cost of a further test row: both are timed with few and with many, and the scaling of the
training rows, which ours does once for a matrix and scikit-matter once for a call, drops out.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp.reconstruction.pairs import Rows, pointwise_errors

N_TRAIN = 5000
SHAPES = ((256, 10), (256, 20), (256, 50), (256, 100), (128, 128), (256, 256))
"""(D, k)."""
TARGETS = (1, 6)
FEW, PEER_POINTS = 1, 9


@dataclass(frozen=True)
class LocalProblem:
    """A source and targets [n_train + n_test, D], the training rows first."""

    source: Tensor
    targets: list[Tensor]
    k: int
    n_test: int

    @property
    def name(self) -> str:
        return f"local k={self.k} D={self.source.shape[1]} {len(self.targets)} targets"


def make_problem(width: int, k: int, n_targets: int, n_test: int) -> LocalProblem:
    """Gaussian rows; targets are noisy tanh of random mixtures of them."""
    random = torch.Generator().manual_seed(0)
    source = torch.randn(N_TRAIN + n_test, width, dtype=torch.float64, generator=random)
    mixtures = torch.randn(n_targets, width, width, dtype=torch.float64, generator=random) / width**0.5
    noise = torch.randn(n_targets, *source.shape, dtype=torch.float64, generator=random)
    return LocalProblem(source, list(torch.tanh(source @ mixtures) + 0.1 * noise), k, n_test)


def ours(problem: LocalProblem, n_test: int, device: str = "cpu") -> list[Tensor]:
    """Row errors of the first test rows for every target."""
    train, test = torch.arange(N_TRAIN), torch.arange(N_TRAIN, N_TRAIN + n_test)
    matrices = (problem.source, *problem.targets)
    source, *targets = (Rows(values.to(device), train.to(device), test.to(device)) for values in matrices)
    return pointwise_errors(source, targets, "lfre", n_local_points=problem.k)


def scikit_matter(problem: LocalProblem, target: int, n_test: int) -> np.ndarray:
    """Row errors of the first test rows for one target."""
    from skmatter.metrics import pointwise_local_reconstruction_error

    rows = np.arange(N_TRAIN + n_test)
    X, Y = (values[: len(rows)].numpy() for values in (problem.source, problem.targets[target]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pointwise_local_reconstruction_error(X, Y, problem.k, train_idx=rows[:N_TRAIN], test_idx=rows[N_TRAIN:])


def rows(options: Any) -> list[dict]:
    """One row for ours and one for scikit-matter of every problem.

    Read from options, where they are there: device, repeat, points (test rows of ours), shapes ((D, k) pairs) and
    targets (numbers of them). ms is for a further test row and all targets; scikit-matter's is that of one call
    times the number of targets. error is the largest relative one of a row error, checked on every target before
    anything is timed.
    """
    device, repeat = getattr(options, "device", "cpu"), getattr(options, "repeat", 3)
    found = []
    for width, k in getattr(options, "shapes", SHAPES):
        points = getattr(options, "points", None) or max(32, min(512, 16384 // k))
        for n_targets in getattr(options, "targets", TARGETS):
            found += _rows_of(make_problem(width, k, n_targets, points + FEW), device, repeat)
    return found


def _rows_of(problem: LocalProblem, device: str, repeat: int) -> list[dict]:
    n_targets, error = len(problem.targets), _error(problem, device)
    seconds: dict[str, list[float]] = {"latentcmp": [], "scikit-matter": []}
    for round_ in range(repeat):
        peer = partial(scikit_matter, problem, round_ % n_targets)
        seconds["latentcmp"].append(_marginal(partial(ours, problem, device=device), problem.n_test, device))
        seconds["scikit-matter"].append(_marginal(peer, PEER_POINTS, "cpu") * n_targets)
    ms = {name: 1e3 * sorted(times)[repeat // 2] for name, times in seconds.items()}
    return [
        {"problem": problem.name, "name": name, "ms": ms[name], "ratio": ms["scikit-matter"] / ms[name], "error": wrong}
        for name, wrong in (("latentcmp", error), ("scikit-matter", None))
    ]


def _error(problem: LocalProblem, device: str) -> float:
    found = ours(problem, PEER_POINTS, device)
    expected = [scikit_matter(problem, target, PEER_POINTS) for target in range(len(found))]
    return max(float(np.max(np.abs(a.cpu().numpy() / b - 1))) for a, b in zip(found, expected, strict=True))


def _marginal(call: Callable[[int], object], many: int, device: str) -> float:
    """Seconds for a further test row of call(n_test)."""
    few = min(_seconds(partial(call, FEW), device) for _ in range(2))
    return (_seconds(partial(call, many), device) - few) / (many - FEW)


def _seconds(call: Callable[[], object], device: str) -> float:
    """CPU time of the process where it runs on one thread of the CPU, else wall time."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start
