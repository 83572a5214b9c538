"""Local reconstruction errors against a stream of training rows, exactly, in memory that does not grow with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.inputs import points_of_widths, root_mean_square
from latentcmp.measures.local import errors_of_neighbours
from latentcmp.measures.streaming_nearest import Neighbours, RunningNeighbours
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.storage import METADATA, check_metadata, prefixed, tensors_of, under

KIND = "running local errors"


class RunningLocalErrors:
    """LFRE between all ordered pairs on fixed test rows, from training rows that come in pieces and are not kept.

    A second pass over the training rows brings them to `update`, in pieces of any size and order, or to several objects
    that `merge`; `compute` is then what all rows at once would give. Memory holds, for each source and test row, the k
    nearest training rows of every matrix.

    Args:
        statistics: joint statistics of all training rows, whose scaling they give.
        test: {name: [m, D]} the test rows.
        n_local_points: k; None for the smaller width of each pair.

    Raises:
        InputError: names or test rows do not fit the statistics, or k is below 2.
    """

    def __init__(
        self, statistics: JointStatistics, test: Mapping[str, Tensor], n_local_points: int | None = None
    ) -> None:
        _check(statistics, test, n_local_points)
        self.widths, self.n_local_points = dict(statistics.widths), n_local_points
        self.scalings = statistics.compute().scaled().scalings
        self.test = {name: self.scalings[name](test[name].detach().double()) for name in self.widths}
        self._nearest = {
            name: RunningNeighbours(self.test[name], max(self._points(name, target) for target in self.widths))
            for name in self.widths
        }

    def reset(self) -> None:
        """Forget all training rows."""
        for nearest in self._nearest.values():
            nearest.reset()

    def update(self, features: Mapping[str, Tensor], start: int) -> None:
        """Add training rows start, start + 1, ..., each row once.

        Args:
            features: {name: [n, D]} of every matrix, not scaled.
            start: the number of the first row.

        Raises:
            InputError: names, shapes, dtypes or devices do not fit.
        """
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        for name, nearest in self._nearest.items():
            nearest.update(self.scalings[name](features[name].detach().double()), features, start)

    def merge(self, other: "RunningLocalErrors") -> None:
        """Add the training rows of another object with the same test rows and statistics.

        Raises:
            InputError: test rows, their scaling or k differ.
        """
        for name, nearest in self._nearest.items():
            nearest.merge(other._nearest[name])

    def compute(self, solver: Solver = "cutoff", alphas: np.ndarray | None = None) -> Tensor:
        """Return the LFRE of all ordered pairs.

        Args:
            solver: "cutoff" (truncated SVD) or "ridge".
            alphas: relative strengths; None for the default grid.

        Returns:
            [n_names, n_names] float64 on the CPU, sources in rows, in the order of the widths.

        Raises:
            InputError: there are fewer training rows than k, or a row number came twice.
        """
        rows = [self.pointwise(source, solver, alphas).values() for source in self.widths]
        return torch.stack([torch.stack([root_mean_square(errors) for errors in row]) for row in rows]).cpu()

    def pointwise(self, source: str, solver: Solver = "cutoff", alphas: np.ndarray | None = None) -> dict[str, Tensor]:
        """Return the errors of the test rows of every target reconstructed from one source: {target: [m]}.

        Arguments and errors are those of `compute`.
        """
        neighbours = self._nearest[source].compute()
        by_k: dict[int, list[str]] = {}
        for target in self.widths:
            by_k.setdefault(self._points(source, target), []).append(target)
        errors: dict[str, Tensor] = {}
        for k, members in by_k.items():  # targets of one k share the factors of the source
            errors |= self._errors(source, members, k, neighbours, solver, alphas)
        return {target: errors[target] for target in self.widths}

    def state_dict(self) -> StateDict:
        """Return copies of all tensors, by matrix, and kind, widths and k under "metadata"."""
        state: StateDict = {METADATA: self._metadata()}
        for name, nearest in self._nearest.items():
            state |= prefixed(name, tensors_of(nearest.state_dict()))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all training rows by those of a `state_dict` of the same test rows, statistics and k.

        Raises:
            InputError: the state is of another kind, other widths, k, test rows or scaling.
        """
        check_metadata(state, self._metadata())
        for name, nearest in self._nearest.items():
            nearest.load_state_dict({**under(name, state), METADATA: nearest.metadata()})

    def _metadata(self) -> Metadata:
        return {"kind": KIND, "widths": dict(self.widths), "n_local_points": self.n_local_points}

    def _errors(
        self,
        source: str,
        targets: list[str],
        k: int,
        neighbours: Neighbours,
        solver: Solver,
        alphas: np.ndarray | None,
    ) -> dict[str, Tensor]:
        """Errors of targets that share k, with the neighbours of all test rows side by side as training rows."""
        near = {name: self._scaled(name, neighbours) for name in {source, *targets}}
        rows = torch.arange(neighbours.rows.numel(), device=neighbours.rows.device).view_as(neighbours.rows)
        sides = [(near[target], self.test[target]) for target in targets]
        errors = errors_of_neighbours(near[source], self.test[source], sides, rows[:, :k], solver=solver, alphas=alphas)
        return dict(zip(targets, errors, strict=True))

    def _scaled(self, name: str, neighbours: Neighbours) -> Tensor:
        return self.scalings[name](neighbours.payload[name].double()).flatten(0, 1)

    def _points(self, source: str, target: str) -> int:
        return self.n_local_points or points_of_widths(self.widths[source], self.widths[target])


def _check(statistics: JointStatistics, test: Mapping[str, Tensor], n_local_points: int | None) -> None:
    shapes = {name: tuple(rows.shape) for name, rows in test.items()}
    m = next(iter(shapes.values()), (0,))[0]
    expected = {name: (m, width) for name, width in statistics.widths.items()}
    if shapes != expected or m < 1:
        raise InputError(f"test must hold the same rows, at least one, of {expected}, got {shapes}")
    if n_local_points is not None and n_local_points < 2:
        raise InputError(f"n_local_points must be at least 2, got {n_local_points}")
