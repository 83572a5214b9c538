"""Reconstruct features of several models from one another beside scikit-matter, scikit-learn and himalaya.

A peer that takes one pair or one source a call is measured on one and multiplied by their number. scikit-learn and
himalaya choose their strength by rules of their own: they are peers in cost, and their error column shows how far
their numbers lie from scikit-matter's. The default recipe is measured by `reconstruction_folds`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp import JointStatistics, compare_features
from latentcmp.systems.folds import halves, two_folds

from . import local, reconstruction_folds
from .run import is_installed, is_wanted, measure, print_table

SHAPES = {"10k-128": (10_000, 128), "10k-256": (10_000, 256), "10k-512": (10_000, 512), "50k-256": (50_000, 256)}
ALPHAS = np.geomspace(1e-9, 0.9, 20)


@dataclass(frozen=True)
class Problem:
    """Feature matrices of one latent truth, float32 [n, D] each on a device, split as scikit-matter does by default.

    `part` is on the CPU.
    """

    matrices: dict[str, Tensor]
    train: np.ndarray
    test: np.ndarray
    part: Tensor

    @property
    def device(self) -> torch.device:
        return next(iter(self.matrices.values())).device

    @property
    def doubles(self) -> list[np.ndarray]:
        return [values.double().cpu().numpy() for values in self.matrices.values()]


@dataclass(frozen=True)
class Peer:
    """A way to get GFRE: `prepare(problem)` makes a call that gives errors, the first that of matrix 0 to matrix 1.

    `share` is the part of all ordered pairs that one call does, "pair", "source" or "all".
    """

    name: str
    prepare: Callable[[Problem], Callable[[], float]]
    share: str = "pair"
    needs: str = ""
    most_rows: float = float("inf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    local.add_arguments(parser)
    parser.add_argument("--models", type=int, default=6)
    parser.set_defaults(repeat=3)


def run(options: argparse.Namespace) -> list[dict]:
    """Global errors for every shape, then local ones; the peers' BLAS holds to the same number of threads."""
    if absent := [peer.name for peer in PEERS if is_wanted(peer.name, options) and not is_installed(peer.needs)]:
        print(f"Not installed, left out: {', '.join(absent)}")
    with _blas_threads(options.threads):
        rows = []
        for shape in options.shapes:
            n, width = SHAPES[shape]
            problem = make_problem(int(n * options.scale), width, options.models, options.device)
            rows += _printed(run_problem(problem, options))
            rows += _printed(reconstruction_folds.run(problem.matrices, options))
        return rows + _printed(local.run(options))


def make_problem(n: int, width: int, models: int, device: str) -> Problem:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(n, 64, generator=generator)

    def features() -> Tensor:
        mixed = torch.tanh(latent @ torch.randn(64, width, generator=generator) / 8)
        return (mixed + 0.05 * torch.randn(n, width, generator=generator)).to(device)

    train, test = halves(n)
    part = torch.full((n,), 2)
    for fold, rows in enumerate(two_folds(len(train))):
        part[torch.from_numpy(train[rows])] = fold
    return Problem({f"model {m}": features() for m in range(models)}, train, test, part)


def run_problem(problem: Problem, options: argparse.Namespace) -> list[dict]:
    """Rows of the table for one problem: seconds for all ordered pairs, ours first."""
    n, width = problem.matrices["model 0"].shape
    chosen = [peer for peer in PEERS if _takes_part(peer, n, options)]
    calls = {peer.name: peer.prepare(problem) for peer in chosen}
    numbers = {name: call() for name, call in calls.items()}
    truth = numbers.get("scikit-matter", numbers[chosen[0].name])
    found = measure(dict(calls), options.repeat, options.device)
    times = {"pair": options.models**2, "source": options.models, "all": 1}
    seconds = {peer.name: found[peer.name] * times[peer.share] for peer in chosen}
    first = seconds[chosen[0].name]
    return [
        {
            "problem": f"GFRE, {options.models} models, {n} x {width}",
            "what": f"all pairs, one {peer.share} measured" if peer.share != "all" else "all pairs",
            "name": peer.name,
            "ms": seconds[peer.name] * 1e3,
            "over_ours": seconds[peer.name] / first,
            "error": abs(numbers[peer.name] / truth - 1),
        }
        for peer in chosen
    ]


def _takes_part(peer: Peer, n: int, options: argparse.Namespace) -> bool:
    return is_wanted(peer.name, options) and is_installed(peer.needs) and (options.slow or n <= peer.most_rows)


def statistics(method: str) -> Callable[[Problem], Callable[[], float]]:
    """All pairs by JointStatistics, from float32 rows to errors."""

    def prepare(problem: Problem) -> Callable[[], float]:
        widths = {name: values.shape[1] for name, values in problem.matrices.items()}

        def call() -> float:
            found = JointStatistics(widths, method, problem.device)  # type: ignore[arg-type]
            found.update(problem.matrices, problem.part)
            return float(found.errors()[0, 1])

        return call

    return prepare


def front_door(problem: Problem) -> Callable[[], float]:
    """All pairs by compare_features as a user calls it, intervals included."""

    def call() -> float:
        split = {"train_idx": problem.train, "test_idx": problem.test}
        return compare_features(problem.matrices, measures=("gfre",), **split).gfre["model 0", "model 1"]

    return call


def scikit_matter(problem: Problem) -> Callable[[], float]:
    from skmatter.metrics import global_reconstruction_error

    x, y = problem.doubles[:2]
    return lambda: float(global_reconstruction_error(x, y))


def ridge_cv(problem: Problem) -> Callable[[], float]:
    from sklearn.linear_model import RidgeCV

    (x, x_test), (y, y_test) = (_scaled(matrix, problem) for matrix in problem.doubles[:2])

    def call() -> float:
        fit = RidgeCV(alphas=ALPHAS * len(x), fit_intercept=False).fit(x, y)
        return _error(y_test - fit.predict(x_test))

    return call


def himalaya(problem: Problem) -> Callable[[], float]:
    """One source with all targets side by side, on the torch backend of the device."""
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV

    device = problem.device
    set_backend("torch_cuda" if device.type == "cuda" else "torch", on_error="raise")
    scaled = [_scaled(matrix, problem) for matrix in problem.doubles]
    x, x_test = (torch.from_numpy(rows).to(device) for rows in scaled[0])
    y = torch.from_numpy(np.concatenate([train for train, _ in scaled], 1)).to(device)
    width = x.shape[1]

    def call() -> float:
        fit = RidgeCV(alphas=ALPHAS * len(x), fit_intercept=False, cv=2).fit(x, y)
        return _error(scaled[1][1] - fit.predict(x_test)[:, width : 2 * width].cpu().numpy())

    return call


PEERS: Sequence[Peer] = (
    Peer("latentcmp gram", statistics("gram"), "all"),
    Peer("latentcmp qr", statistics("qr"), "all"),
    Peer("latentcmp compare_features", front_door, "all"),
    Peer("scikit-matter", scikit_matter, needs="skmatter"),
    Peer("scikit-learn RidgeCV", ridge_cv, needs="sklearn"),
    Peer("himalaya RidgeCV", himalaya, "source", needs="himalaya", most_rows=10_000),
)


def _printed(rows: list[dict]) -> list[dict]:
    print_table(rows)
    return rows


def _blas_threads(threads: int) -> AbstractContextManager:
    if not is_installed("threadpoolctl"):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads)


def _scaled(matrix: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    train = matrix[problem.train]
    mean = train.mean(0)
    scale = np.sqrt(train.var(0).sum())
    return (train - mean) / scale, (matrix[problem.test] - mean) / scale


def _error(missing: np.ndarray) -> float:
    return float(np.sqrt(np.square(missing).sum(1).mean()))
