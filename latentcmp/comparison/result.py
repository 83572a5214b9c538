"""The result of a comparison: labelled matrices, their manifest, and methods that write files and figures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcmp._runtime.types import Metadata
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.report.content import Report, Tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Level:
    """The measures of one kind of rows: atoms, or structures.

    Args:
        matrices: measures of pairs, by name.
        n_train: the number of training rows.
        n_test: the number of test rows.
        n_local_points: k of the local errors, [source][target]; None without local errors.
        singles: measures of single matrices, by name.
    """

    matrices: dict[str, ErrorMatrix]
    n_train: int
    n_test: int
    n_local_points: list[list[int]] | None = None
    singles: dict[str, FeatureValues] = field(default_factory=dict)

    @property
    def tables(self) -> list[ErrorMatrix | FeatureValues]:
        """All measures, those of pairs first."""
        return [*self.matrices.values(), *self.singles.values()]

    def __iter__(self) -> Iterator[ErrorMatrix]:
        return iter(self.matrices.values())

    def pairs(self, measure: str) -> ErrorMatrix:
        """The matrix of a measure of pairs. Raises AttributeError where it was not computed."""
        matrix: ErrorMatrix = getattr(self, measure)
        return matrix

    def __getattr__(self, measure: str) -> Any:
        tables = {**self.__dict__.get("matrices", {}), **self.__dict__.get("singles", {})}
        if measure in tables:
            return tables[measure]
        raise AttributeError(f"{measure!r} was not computed; this level has {', '.join(tables) or 'nothing'}")


@dataclass(frozen=True)
class Comparison:
    """The result of `latentcmp.compare` or `latentcmp.compare_features`.

    Args:
        models: names of the models or feature matrices.
        atoms: measures between rows as given (atoms).
        structures: measures between cumulant descriptors of the structures; None where there are none.
        orders: for each model the GFRE of descriptors of order i (row) reconstructing order j (column).
        manifest: what was compared, with which options and versions.
        timing: seconds by part of the work.
    """

    models: tuple[str, ...]
    atoms: Level
    structures: Level | None = None
    orders: dict[str, ErrorMatrix] = field(default_factory=dict)
    manifest: Metadata = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def gfre(self) -> ErrorMatrix:
        """Global feature reconstruction errors between atoms."""
        return self.atoms.pairs("gfre")

    @property
    def gfrd(self) -> ErrorMatrix:
        """Global feature reconstruction distortions between atoms."""
        return self.atoms.pairs("gfrd")

    @property
    def lfre(self) -> ErrorMatrix:
        """Local feature reconstruction errors between atoms."""
        return self.atoms.pairs("lfre")

    def report(self) -> Report:
        """The tables and numbers that files and figures are made of."""
        levels = {"": Tables(self.atoms.tables, self.atoms.n_train, self.atoms.n_test)}
        if self.structures:
            structures = self.structures
            levels["_structures"] = Tables(structures.tables, structures.n_train, structures.n_test, "structures")
        return Report(levels, self.orders, self.to_dict())

    def save(self, directory: str | Path) -> list[Path]:
        """Write results.json, CSV tables and figures; earlier ones are replaced once all are written.

        Args:
            directory: created if it does not exist.

        Returns:
            The paths of the files.

        Raises:
            InputError: the directory cannot be written.
        """
        from latentcmp.report.files import save

        return save(self.report(), directory)

    def plot(self) -> "Figure":
        """The heat maps of the measures between atoms as a matplotlib figure."""
        from latentcmp.report.figures import heatmap

        return heatmap(self.atoms.tables, self.atoms.n_train, self.atoms.n_test)

    def to_dict(self) -> Metadata:
        """Every number, as results.json holds it."""
        levels = {"atoms": self.atoms} | ({"structures": self.structures} if self.structures else {})
        return {
            "models": list(self.models),
            **{name: _level_dict(level) for name, level in levels.items()},
            "orders": {name: matrix.tolist() for name, matrix in self.orders.items()},
            "manifest": self.manifest,
            "timing": self.timing,
        }

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.atoms.tables))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.atoms.tables)


def _level_dict(level: Level) -> Metadata:
    return {
        **{table.measure: table.tolist() for table in level.tables},
        "details": {
            measure: [[asdict(cell) for cell in row] for row in matrix.summaries]
            for measure, matrix in level.matrices.items()
            if matrix.summaries
        },
        "n_train": level.n_train,
        "n_test": level.n_test,
        "n_local_points": level.n_local_points,
    }
