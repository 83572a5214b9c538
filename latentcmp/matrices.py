"""Feature matrices at hand to errors between all ordered pairs of them; no model, no structure."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import Tensor

from latentcmp import __version__
from latentcmp._settings import map_over_cores
from latentcmp.comparison import Comparison, ErrorMatrix, Level
from latentcmp.errors import InputError
from latentcmp.metrics import as_matrix, checked_split
from latentcmp.reconstruction.pairs import Measure, Rows, check_measures, local_points, pointwise_errors, split_rows
from latentcmp.reconstruction.solvers import Solver, checked_alphas
from latentcmp.reconstruction.summary import Owners, Summary
from latentcmp.systems.split import rows_by_group


def compare_features(
    features: Mapping[str, Tensor | np.ndarray],
    test_idx: Any = None,
    train_idx: Any = None,
    groups: Sequence[Any] | None = None,
    measures: Sequence[Measure] = ("gfre", "lfre"),
    n_local_points: int | None = None,
    *,
    solver: Solver = "cutoff",
    alphas: Any = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Comparison:
    """Errors between feature matrices at hand, {name: [n, D]}, which hold the same rows; no model is run.

    Tensors stay on their device. `test_idx` and `train_idx` are as in `latentcmp.metrics`, and with the same split
    the entries are those of its functions. `groups` [n] instead sends all rows of a group (a structure, a parent, a
    trajectory) to one side by a keyed hash of its label. `measures` are of "gfre", "gfrd", "lfre"; `n_local_points`
    is the k of LFRE, by default min(D_X, D_Y) and at most the training rows. Raises InputError.
    """
    if not features:
        raise InputError("no features were given; give a mapping of names to matrices [n, D]")
    check_measures(measures)
    matrices = {str(name): as_matrix(str(name), values) for name, values in features.items()}
    n = len(next(iter(matrices.values())))
    labels = [str(row) for row in range(n)] if groups is None else _labels(groups)
    if groups is not None:
        if test_idx is not None or train_idx is not None:
            raise InputError("groups make the split; give them, or test_idx and train_idx, not both")
        test_idx = rows_by_group(labels, n, test_fraction, seed)
    train, test = checked_split(matrices, train_idx, test_idx)
    job = Job(tuple(measures), n_local_points, solver, checked_alphas(alphas))
    level = job.run(matrices, RowSplit(train, test, Owners([labels[row] for row in test.tolist()])))
    manifest = {"versions": versions(), "solver": solver, "alphas": job.alphas.tolist()}
    return Comparison(tuple(matrices), level, manifest=manifest)


@dataclass(frozen=True)
class RowSplit:
    """Training and test rows (positions), and the structures that the test rows belong to."""

    train: np.ndarray
    test: np.ndarray
    owners: Owners

    @classmethod
    def of(cls, test: np.ndarray, ids: Sequence[str]) -> "RowSplit":
        """From a mask [n] of test rows and the structure of every row."""
        rows = np.flatnonzero(test)
        return cls(np.flatnonzero(~test), rows, Owners([ids[row] for row in rows.tolist()]))


@dataclass(frozen=True)
class Job:
    """Which measures, and how, between all ordered pairs of some matrices."""

    measures: tuple[Measure, ...]
    n_local_points: int | None
    solver: Solver
    alphas: np.ndarray

    def run(
        self,
        matrices: Mapping[str, Tensor],
        split: RowSplit,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> Level:
        """All measures of all pairs; `advance(done, total)` is called after each source of the local errors."""
        rows = split_rows(matrices, split.train, split.test)
        names, sources = tuple(rows), list(rows.values())
        found: dict[str, ErrorMatrix] = {}
        for measure in self.measures:

            def cells_of(source: Rows, measure: Measure = measure) -> list[Summary]:
                options = {"n_local_points": self.n_local_points, "solver": self.solver, "alphas": self.alphas}
                errors = pointwise_errors(source, sources, measure, **options)  # type: ignore[arg-type]
                return [split.owners.summarise(row_errors) for row_errors in errors]

            if measure == "lfre":  # spreads its own batches over the cores
                cells = []
                for source in sources:
                    cells.append(cells_of(source))
                    advance(len(cells), len(sources))
            else:
                cells = map_over_cores(cells_of, sources, sources[0].train.device)
            found[measure] = ErrorMatrix(measure, names, cells)
        neighbours = [[local_points(x, y, self.n_local_points) for y in sources] for x in sources]
        return Level(found, len(split.train), len(split.test), neighbours if "lfre" in self.measures else None)


def versions() -> dict[str, str]:
    """Versions that numbers may depend on."""
    packages = {package: version(package) for package in ("torch", "numpy", "ase", "e3nn")}
    return {"latentcmp": __version__, "python": platform.python_version(), **packages}


def _labels(groups: Sequence[Any]) -> list[str]:
    return [str(label.item() if hasattr(label, "item") else label) for label in groups]
