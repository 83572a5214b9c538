"""Local reconstruction errors against a stream of training rows, exactly, in memory that does not grow with it."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import Solver
from latentcmp.measures.inputs import points_of_widths, root_mean_square
from latentcmp.measures.local import errors_of_neighbours
from latentcmp.measures.streaming_nearest import RunningNeighbours
from latentcmp.statistics.joint import JointStatistics


class RunningLocalErrors:
    """LFRE between all ordered pairs on fixed test rows, from training rows that come in pieces and are not kept.

    `statistics` has seen all training rows: it gives their scaling. `test` holds the test rows {name: [m, D]}. A
    second pass brings the training rows to `update`, in pieces of any size and order, or to several objects that
    `merge`; `errors` then is what all rows at once would give. `n_local_points` is k (default: the smaller width of a
    pair). Held are, for each source and test row, the k nearest training rows of every matrix. Raises InputError for
    names or test rows that do not fit the statistics.
    """

    def __init__(
        self, statistics: JointStatistics, test: Mapping[str, Tensor], n_local_points: int | None = None
    ) -> None:
        _check(statistics, test, n_local_points)
        self.widths, self.n_local_points = dict(statistics.widths), n_local_points
        self.scalings = {name: found.scaling for name, found in statistics.compute().compressed().items()}
        self.test = {name: self.scalings[name](test[name].detach().double()) for name in self.widths}
        self._nearest = {
            name: RunningNeighbours(self.test[name], max(self._points(name, target) for target in self.widths))
            for name in self.widths
        }

    def update(self, features: Mapping[str, Tensor], start: int) -> None:
        """Add training rows start, start + 1, ... of every matrix, {name: [n, D]}, each row once."""
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        for name, nearest in self._nearest.items():
            nearest.update(self.scalings[name](features[name].detach().double()), features, start)

    def merge(self, other: "RunningLocalErrors") -> None:
        """Add the training rows that another has seen, for the same test rows and statistics."""
        for name, nearest in self._nearest.items():
            nearest.merge(other._nearest[name])

    def pointwise(self, source: str, solver: Solver = "cutoff", alphas: np.ndarray | None = None) -> dict[str, Tensor]:
        """Errors [m] of every test row and target. Raises InputError for fewer training rows than k."""
        found = self._nearest[source].neighbours()
        known = {name: self.scalings[name](rows.double()) for name, rows in found.payload.items()}
        m, most = found.rows.shape
        rows = torch.arange(m * most, device=found.rows.device).view(m, most)
        by_k: dict[int, list[str]] = {}
        for target in self.widths:
            by_k.setdefault(self._points(source, target), []).append(target)
        errors: dict[str, Tensor] = {}
        for k, members in by_k.items():  # targets of one k share the factors of the source
            sides = [(known[target].flatten(0, 1), self.test[target]) for target in members]
            of_k = errors_of_neighbours(
                known[source].flatten(0, 1), self.test[source], sides, rows[:, :k], solver=solver, alphas=alphas
            )
            errors.update(zip(members, of_k, strict=True))
        return {target: errors[target] for target in self.widths}

    def errors(self, solver: Solver = "cutoff", alphas: np.ndarray | None = None) -> Tensor:
        """LFRE of all ordered pairs: [n_names, n_names] on the CPU, sources in rows, in the order of the widths."""
        rows = [self.pointwise(source, solver, alphas).values() for source in self.widths]
        return torch.stack([torch.stack([root_mean_square(found) for found in row]) for row in rows]).cpu()

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
