"""Local reconstruction beside scikit-matter, and local ridge maps beside scikit-learn, called once for each pair.

What is compared is the cost of a further test row: both are timed with few and with many, and the scaling of the
training rows, which ours does once for a matrix and scikit-matter once for a call, drops out. On a GPU, which few test
rows do not fill, a whole problem is timed too, from scaled rows to errors.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp import compare_features
from latentcmp.measures.inputs import Rows
from latentcmp.measures.local_ridge import default_local_strengths, local_ridge_errors
from latentcmp.measures.nearest import nearest
from latentcmp.measures.pairs import pointwise_errors
from latentcmp.systems.folds import two_folds

from .run import is_installed, is_wanted, measure, seconds

N_TRAIN = 5000
NEIGHBOURS = {
    "256-10": 10,
    "256-20": 20,
    "256-50": 50,
    "256-100": 100,
    "64-64": 64,
    "128-128": 128,
    "256-256": 256,
}
"""k of each shape, which is named D-k."""
FEW, PEER_POINTS = 1, 9
DOOR = {"width": 256, "k": 20, "n_train": 9_800, "n_test": 200}
WHOLE = {"width": 256, "k": 20, "n_train": 25_000, "n_test": 25_000}


@dataclass(frozen=True)
class LocalProblem:
    """A source and targets [n_train + n_test, D], the training rows first."""

    source: Tensor
    targets: list[Tensor]
    k: int
    n_train: int

    @property
    def n_test(self) -> int:
        return len(self.source) - self.n_train

    @property
    def name(self) -> str:
        return f"LFRE, k = {self.k}, {len(self.targets)} targets, {self.n_train} training rows x {self.source.shape[1]}"

    def scaled(self, n_test: int, device: str) -> list[Rows]:
        """The source and the targets with their first test rows."""
        train, test = torch.arange(self.n_train + n_test, device=device).split([self.n_train, n_test])
        return [Rows.split(values.to(device), train, test) for values in (self.source, *self.targets)]


def make_problem(width: int, k: int, n_targets: int, n_test: int, n_train: int = N_TRAIN) -> LocalProblem:
    """Gaussian rows; targets are noisy tanh of random mixtures of them."""
    random = torch.Generator().manual_seed(0)
    source = torch.randn(n_train + n_test, width, dtype=torch.float64, generator=random)
    mixtures = torch.randn(n_targets, width, width, dtype=torch.float64, generator=random) / width**0.5
    noise = torch.randn(n_targets, *source.shape, dtype=torch.float64, generator=random)
    return LocalProblem(source, list(torch.tanh(source @ mixtures) + 0.1 * noise), k, n_train)


def ours(problem: LocalProblem, n_test: int, device: str = "cpu") -> list[Tensor]:
    """Row errors of the first test rows for every target."""
    source, *targets = problem.scaled(n_test, device)
    return pointwise_errors(source, targets, "lfre", n_local_points=problem.k)


def scikit_matter(problem: LocalProblem, target: int, n_test: int) -> np.ndarray:
    """Row errors of the first test rows for one target."""
    from skmatter.metrics import pointwise_local_reconstruction_error

    n = problem.n_train
    rows = np.arange(n + n_test)
    X, Y = (values[: len(rows)].numpy() for values in (problem.source, problem.targets[target]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pointwise_local_reconstruction_error(X, Y, problem.k, train_idx=rows[:n], test_idx=rows[n:])


def ours_by_ridge(problem: LocalProblem, n_test: int, device: str = "cpu") -> list[Tensor]:
    """Row errors of local ridge maps of the first test rows for every target."""
    source, *targets = problem.scaled(n_test, device)
    neighbours = nearest(source.train, source.test, problem.k)
    return local_ridge_errors(source.train, source.test, [(y.train, y.test) for y in targets], neighbours)


def scikit_learn(problem: LocalProblem, target: int, n_test: int) -> np.ndarray:
    """Row errors of local ridge maps of the first test rows for one target, by `KernelRidge`."""
    from sklearn.neighbors import NearestNeighbors

    source, *targets = ([part.numpy() for part in (rows.train, rows.test)] for rows in problem.scaled(n_test, "cpu"))
    near = NearestNeighbors(n_neighbors=problem.k, algorithm="brute").fit(source[0]).kneighbors(source[1])[1]
    y_train, y_test = targets[target]
    rows = zip(near, source[1], y_test, strict=True)
    return np.array([_kernel_ridge_error(source[0][i], query, y_train[i], y) for i, query, y in rows])


def _kernel_ridge_error(x: np.ndarray, query: np.ndarray, y: np.ndarray, y_test: np.ndarray) -> float:
    """Of one test row: the strength with the least squared error over both folds, then the fit to all neighbours."""
    from sklearn.kernel_ridge import KernelRidge

    def predict(rows: np.ndarray | slice, queries: np.ndarray, strength: float) -> np.ndarray:
        alpha = (strength * np.linalg.norm(x[rows], 2)) ** 2
        return KernelRidge(alpha=alpha).fit(x[rows], y[rows]).predict(queries)

    query, y_test, x, y = query - x.mean(0), y_test - y.mean(0), x - x.mean(0), y - y.mean(0)
    first, second = two_folds(len(x))
    turns, strengths = ((first, second), (second, first)), default_local_strengths()
    losses = [sum(np.square(y[o] - predict(i, x[o], t)).sum() for i, o in turns) for t in strengths]
    return float(np.linalg.norm(y_test - predict(slice(None), query[None], strengths[np.argmin(losses)])[0]))


class RowPeer(NamedTuple):
    """A package that computes the row errors of one target, and the one of ours that it checks."""

    package: str
    errors: Callable[[LocalProblem, int, int], np.ndarray]
    checks: str


OURS = {"latentcmp": ours, "latentcmp ridge": ours_by_ridge}
PEERS = {
    "scikit-matter": RowPeer("skmatter", scikit_matter, "latentcmp"),
    "scikit-learn KernelRidge": RowPeer("sklearn", scikit_learn, "latentcmp ridge"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = list(NEIGHBOURS)
    parser.add_argument("--local-shapes", nargs="*", choices=choices, default=choices, help="D-k of local errors")
    whole = ", ".join(f"{name} {value}" for name, value in WHOLE.items())
    parser.add_argument("--whole", action="store_true", help=f"a whole problem ({whole}) on a CPU too")


def run(options: argparse.Namespace) -> list[dict]:
    """Rows of the table: milliseconds for one further test row and every target but the source itself.

    Those of peers are those of one call times the number of targets. The error is the largest relative one of a row
    error, checked on every target before anything is timed where the peer is installed: scikit-matter, whose recipe
    "latentcmp" follows, or scikit-learn, which fits the ridge maps.
    """
    found = []
    for shape in options.local_shapes:
        k = NEIGHBOURS[shape]
        n_test = FEW + int(max(32, min(512, 16384 // k)) * options.scale)
        problem = make_problem(int(shape.split("-")[0]), k, max(options.models, 1), max(n_test, PEER_POINTS))
        found += _rows_of(problem, options)
    found += _compare_features(options)
    if options.whole or options.device == "cuda":
        found.append(_whole(options))
    return found


def _compare_features(options: argparse.Namespace) -> list[dict]:
    """Rows of all pairs by compare_features as a user calls it, intervals included, beside scikit-matter."""
    sizes = {name: value if name in ("width", "k") else int(value * options.scale) for name, value in DOOR.items()}
    problem = make_problem(n_targets=options.models - 1, **sizes)
    matrices = {str(m): values.to(options.device) for m, values in enumerate((problem.source, *problem.targets))}
    rows = np.arange(len(problem.source))
    split = {"train_idx": rows[: problem.n_train], "test_idx": rows[problem.n_train :]}
    door = partial(compare_features, matrices, measures=("lfre",), n_local_points=problem.k, **split)
    calls: dict[str, Callable[[], object]] = {"latentcmp compare_features": door}
    if is_installed("skmatter") and is_wanted("scikit-matter", options):
        calls["scikit-matter"] = partial(scikit_matter, problem, 0, problem.n_test)
    times = measure(calls, options.repeat, options.device)
    pairs = {"latentcmp compare_features": 1, "scikit-matter": options.models**2}
    ms = {name: 1e3 * times[name] * pairs[name] for name in calls}
    return [
        {
            "problem": f"LFRE, k = {problem.k}, {options.models} models, {len(rows)} x {DOOR['width']}",
            "what": f"all pairs, {problem.n_test} test rows" + (", one pair measured" if pairs[name] > 1 else ""),
            "name": name,
            "ms": ms[name],
            "over_ours": ms[name] / ms["latentcmp compare_features"],
            "error": None,
        }
        for name in calls
    ]


def _whole(options: argparse.Namespace) -> dict:
    """The row of a whole problem, of which scikit-matter checks the first test rows."""
    sizes = {name: value if name in ("width", "k") else int(value * options.scale) for name, value in WHOLE.items()}
    problem = make_problem(n_targets=options.models, **sizes)
    source, *targets = problem.scaled(problem.n_test, options.device)
    call = partial(pointwise_errors, source, targets, "lfre", n_local_points=problem.k)
    name = "latentcmp"
    return {
        "problem": problem.name,
        "what": f"all {problem.n_test} test rows",
        "name": name,
        "ms": 1e3 * measure({name: call}, options.repeat, options.device)[name],
        "error": _error(problem, options.device, "scikit-matter") if is_installed("skmatter") else None,
    }


def _rows_of(problem: LocalProblem, options: argparse.Namespace) -> list[dict]:
    """Our times, the first row, and those of the peers that are installed, one after another in every round."""
    n_targets = len(problem.targets)
    installed = [name for name in PEERS if is_installed(PEERS[name].package)]
    errors = {PEERS[name].checks: _error(problem, options.device, name) for name in installed}
    peers = [name for name in installed if is_wanted(name, options)]
    times: dict[str, list[float]] = {name: [] for name in (*OURS, *peers)}
    for round_ in range(options.repeat):
        for name, call in OURS.items():
            times[name].append(_marginal(partial(call, problem, device=options.device), problem.n_test, options.device))
        for name in peers:
            peer = partial(PEERS[name].errors, problem, round_ % n_targets)
            times[name].append(_marginal(peer, PEER_POINTS, "cpu") * n_targets)
    ms = {name: 1e3 * sorted(found)[len(found) // 2] for name, found in times.items()}
    return [
        {
            "problem": problem.name,
            "what": "a test row, one pair measured" if name in peers else "a test row",
            "name": name,
            "ms": ms[name],
            "over_ours": ms[name] / ms["latentcmp"],
            "error": errors.get(name),
        }
        for name in ms
    ]


def _error(problem: LocalProblem, device: str, name: str) -> float:
    """The largest relative difference to a peer's row errors."""
    peer = PEERS[name]
    found = OURS[peer.checks](problem, PEER_POINTS, device)
    expected = [peer.errors(problem, target, PEER_POINTS) for target in range(len(found))]
    return max(float(np.max(np.abs(a.cpu().numpy() / b - 1))) for a, b in zip(found, expected, strict=True))


def _marginal(call: Callable[[int], object], many: int, device: str) -> float:
    """Seconds for a further test row of call(n_test)."""
    few = min(seconds(partial(call, FEW), device) for _ in range(2))
    return (seconds(partial(call, many), device) - few) / (many - FEW)
