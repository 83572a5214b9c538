"""Local reconstruction beside scikit-matter, which is called once for each pair.

What is compared is the cost of a further test row: both are timed with few and with many, and the scaling of the
training rows, which ours does once for a matrix and scikit-matter once for a call, drops out.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latentcmp.reconstruction.pairs import Rows, pointwise_errors

from .run import is_installed, is_wanted, seconds

N_TRAIN = 5000
NEIGHBOURS = {"256-10": 10, "256-20": 20, "256-50": 50, "256-100": 100, "128-128": 128, "256-256": 256}
"""k of each shape, which is named D-k."""
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
        return f"LFRE, k = {self.k}, {len(self.targets)} targets, {N_TRAIN} training rows x {self.source.shape[1]}"


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
    source, *targets = (Rows.split(values.to(device), train.to(device), test.to(device)) for values in matrices)
    return pointwise_errors(source, targets, "lfre", n_local_points=problem.k)


def scikit_matter(problem: LocalProblem, target: int, n_test: int) -> np.ndarray:
    """Row errors of the first test rows for one target."""
    from skmatter.metrics import pointwise_local_reconstruction_error

    rows = np.arange(N_TRAIN + n_test)
    X, Y = (values[: len(rows)].numpy() for values in (problem.source, problem.targets[target]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pointwise_local_reconstruction_error(X, Y, problem.k, train_idx=rows[:N_TRAIN], test_idx=rows[N_TRAIN:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = list(NEIGHBOURS)
    parser.add_argument("--local-shapes", nargs="*", choices=choices, default=choices, help="D-k of local errors")


def run(options: argparse.Namespace) -> list[dict]:
    """Rows of the table: milliseconds for one further test row and every target but the source itself.

    scikit-matter's are those of one call times the number of targets. The error is the largest relative one of a row
    error, checked on every target before anything is timed where scikit-matter is installed.
    """
    found = []
    for shape in options.local_shapes:
        k = NEIGHBOURS[shape]
        n_test = FEW + int(max(32, min(512, 16384 // k)) * options.scale)
        problem = make_problem(int(shape.split("-")[0]), k, max(options.models, 1), max(n_test, PEER_POINTS))
        found += _rows_of(problem, options)
    return found


def _rows_of(problem: LocalProblem, options: argparse.Namespace) -> list[dict]:
    n_targets, installed = len(problem.targets), is_installed("skmatter")
    error = _error(problem, options.device) if installed else None
    times: dict[str, list[float]] = {"latentcmp": [], "scikit-matter": []}
    for round_ in range(options.repeat):
        peer = partial(scikit_matter, problem, round_ % n_targets)
        own = partial(ours, problem, device=options.device)
        times["latentcmp"].append(_marginal(own, problem.n_test, options.device))
        if installed and is_wanted("scikit-matter", options):
            times["scikit-matter"].append(_marginal(peer, PEER_POINTS, "cpu") * n_targets)
    ms = {name: 1e3 * sorted(found)[len(found) // 2] for name, found in times.items() if found}
    errors = {"latentcmp": error}
    return [
        {
            "problem": problem.name,
            "what": "a test row" if name == "latentcmp" else "a test row, one pair measured",
            "name": name,
            "ms": ms[name],
            "over_ours": ms[name] / ms["latentcmp"],
            "error": errors.get(name),
        }
        for name in ms
    ]


def _error(problem: LocalProblem, device: str) -> float:
    found = ours(problem, PEER_POINTS, device)
    expected = [scikit_matter(problem, target, PEER_POINTS) for target in range(len(found))]
    return max(float(np.max(np.abs(a.cpu().numpy() / b - 1))) for a, b in zip(found, expected, strict=True))


def _marginal(call: Callable[[int], object], many: int, device: str) -> float:
    """Seconds for a further test row of call(n_test)."""
    few = min(seconds(partial(call, FEW), device) for _ in range(2))
    return (seconds(partial(call, many), device) - few) / (many - FEW)
