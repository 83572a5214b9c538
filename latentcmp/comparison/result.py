"""The result of a comparison: labelled matrices, their manifest, and methods that write files and figures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.measures.baseline_rows import DESCRIPTIONS, BaselineRows
from latentcmp.measures.effective_structures import Size, VarianceShare
from latentcmp.measures.elements import ElementError
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.within_elements import WithinElements
from latentcmp.report.content import Report, Tables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Context:
    """What stands beside the measures of a level.

    Attributes:
        baselines: errors of baselines, by measure.
        variance: shares of the structures in the variance of each matrix.
        sizes: columns, rows for each column and effective rank of each matrix.
        elements: errors by element, [source][target], by measure.
        learning_curve: global errors by the fraction of the training groups.
        within_elements: global errors within elements, and the shares of the variance between them.
        intervals: how the intervals of each measure were computed.
        warnings: what a reader has to know before the numbers.
    """

    baselines: dict[str, BaselineRows] = field(default_factory=dict)
    variance: dict[str, VarianceShare] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    elements: dict[str, list[list[list[ElementError]]]] = field(default_factory=dict)
    learning_curve: dict[float, ErrorMatrix] = field(default_factory=dict)
    within_elements: WithinElements | None = None
    intervals: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Level:
    """The measures of one kind of rows: atoms, or structures.

    Args:
        matrices: measures of pairs, by name.
        n_train: the number of training rows.
        n_test: the number of test rows.
        n_local_points: k of the local errors, [source][target]; None without local errors.
        singles: measures of single matrices, by name.
        n_folds: folds that test every row once; 1 for a split into training and test rows.
        context: baselines, shares of structures, errors by element, learning curve, warnings.
    """

    matrices: dict[str, ErrorMatrix]
    n_train: int
    n_test: int
    n_local_points: list[list[int]] | None = None
    singles: dict[str, FeatureValues] = field(default_factory=dict)
    n_folds: int = 1
    context: Context = field(default_factory=Context)

    @property
    def rows(self) -> str:
        """The numbers of rows in words."""
        if self.n_folds > 1:
            return f"{self.n_test:,} rows, each tested once in {self.n_folds} folds of groups"
        return f"{self.n_train:,} training, {self.n_test:,} test rows"

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

    def elements(self, source: str, target: str, measure: str = "gfre") -> "pd.DataFrame":
        """Errors of a pair by element: atoms, groups, error over the total spread and over that of the element.

        Raises:
            InputError: there are no errors by element: a measure without row errors, rows without elements, or one
                split.
            KeyError: a name is unknown.
        """
        import pandas as pd

        if measure not in self.atoms.context.elements:
            raise InputError(f"there are no errors of {measure} by element; folds of atoms with elements have them")
        matrix = self.atoms.pairs(measure)
        rows = self.atoms.context.elements[measure][matrix.position(source)][matrix.position(target)]
        return pd.DataFrame(rows).set_index("element")

    def report(self) -> Report:
        """The tables and numbers that files and figures are made of."""
        levels = {"": _tables(self.atoms, "atoms")}
        if self.structures:
            levels["_structures"] = _tables(self.structures, "structures")
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

        return heatmap(_tables(self.atoms, "atoms"))

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


def _tables(level: Level, rows: str) -> Tables:
    context = level.context
    title = level.rows.replace("rows", rows, 1) if level.n_folds > 1 else _of_split(level, rows)
    return Tables(level.tables, title, context.baselines, context.learning_curve, context.elements, context.warnings)


def _of_split(level: Level, rows: str) -> str:
    return f"{level.n_test:,} test {rows}, {level.n_train:,} training {rows}"


def _context_dict(context: Context) -> Metadata:
    return {
        "baselines": {
            measure: {name: _baseline_dict(rows, name) for name in rows.values}
            for measure, rows in context.baselines.items()
        },
        "sizes": {name: size._asdict() for name, size in context.sizes.items()},
        "variance": {name: share._asdict() for name, share in context.variance.items()},
        "elements": {
            measure: [[[element._asdict() for element in cell] for cell in row] for row in rows]
            for measure, rows in context.elements.items()
        },
        "learning_curve": {f"{share:g}": matrix.tolist() for share, matrix in context.learning_curve.items()},
        "within_elements": _within_dict(context.within_elements),
        "intervals": context.intervals,
        "warnings": context.warnings,
    }


def _baseline_dict(rows: BaselineRows, name: str) -> Metadata:
    """The errors of a baseline and their medians; None for a target that it does not have, for JSON has no NaN."""
    given = {"value": rows.values[name], "median": rows.medians.get(name)}
    numbers: Metadata = {key: of and [None if isnan(value) else value for value in of] for key, of in given.items()}
    return {**numbers, "description": DESCRIPTIONS[name]}


def _within_dict(within: WithinElements | None) -> Metadata | None:
    return within and {**within._asdict(), "errors": within.errors.tolist()}


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
        "n_folds": level.n_folds,
        **_context_dict(level.context),
        "n_local_points": level.n_local_points,
    }
