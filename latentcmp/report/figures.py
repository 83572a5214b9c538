"""Figures: heat maps of measures between models, errors between cumulant orders, the drift of a training."""

from collections.abc import Mapping, Sequence
from math import isnan
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcmp.measures.baseline_rows import BaselineRows
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.measure import Measure
from latentcmp.measures.registry import MEASURES
from latentcmp.report.content import Tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLUMNS = 3  # panels side by side
TITLE_WIDTH = 40
NOTE_WIDTH = 130
COLOURS = {"low": "viridis_r", "high": "viridis"}  # equal matrices are light
ARROWS = {"to_reference": "checkpoint → {}", "from_reference": "{} → checkpoint"}


def heatmap(level: Tables) -> "Figure":
    """Draw matrices as heat maps, sources in rows, and values of single matrices as bars.

    Under the value of an error its median; under the models the baselines, and a star at errors that are no better than
    those of the element. Heat maps share one colour bar where all are of one quantity, such as errors.

    Args:
        level: at least one table, with what stands beside it.
    """
    from matplotlib.figure import Figure

    tables = level.tables
    shared = all(isinstance(table, ErrorMatrix) for table in tables) and len({t.about.quantity for t in tables}) == 1
    columns, names = min(COLUMNS, len(tables)), tables[0].names
    lines = -(-len(tables) // columns)
    below = max((len(rows.values) for rows in level.baselines.values()), default=0)
    rows = [*names, *(name for beside in level.baselines.values() for name in beside.values)]
    side = max(2.2, 0.75 * len(names)) + 0.075 * max(map(len, rows))
    notes = _notes(level)
    height = side + (0.3 * below + 0.2 if below else 0)
    size = (
        columns * (side + (0.4 if shared else 1.0)) + (0.9 if shared else 0.2),
        lines * (height + 0.5) + 0.5 + 0.16 * len(notes),
    )
    figure = Figure(figsize=size, layout="compressed")
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    images = [
        _draw_table(axis, table, level.baselines.get(table.measure)) for axis, table in zip(axes, tables, strict=False)
    ]
    for axis in axes[len(tables) :]:
        axis.set_visible(False)
    for axis, image, table in [*zip(axes, images, tables, strict=False)][: 1 if shared else None]:
        if image is not None:
            quantity = table.about.quantity
            extend = "max" if quantity.close == "low" else "neither"
            figure.colorbar(image, ax=axes if shared else axis, label=quantity.label, shrink=0.9, extend=extend)
    figure.suptitle(level.title, fontsize=10)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=7, x=0.01, ha="left").set_parse_math(False)
    return figure


def learning_curve(curve: Mapping[float, ErrorMatrix]) -> "Figure":
    """Draw for each target the errors of all sources against the fraction of the training groups.

    Args:
        curve: {fraction: matrix}, at least one.
    """
    from matplotlib.figure import Figure

    names = next(iter(curve.values())).names
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(columns * 2.4 + 1.6, rows * 2.4 + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, target in zip(axes, names, strict=False):
        for source in names:
            if source != target:
                values = [matrix[source, target] for matrix in curve.values()]
                axis.plot(list(curve), values, marker="o", markersize=3, label=source)
            else:
                axis.plot([], [], marker="o", markersize=3, label=source)  # the same colour for a source in every panel
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(curve), [f"{fraction:g}" for fraction in curve])
        axis.set_title(f"→ {target}", fontsize=9, parse_math=False)
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[0].set_ylabel("GFRE")
    handles, labels = axes[0].get_legend_handles_labels()
    for text in figure.legend(handles, labels, loc="outside right upper", fontsize=8, title="source").get_texts():
        text.set_parse_math(False)
    figure.supxlabel("fraction of the training groups", fontsize=9)
    return figure


def cumulants(orders: Mapping[str, ErrorMatrix]) -> "Figure":
    """Draw for each model the errors of descriptors of order i (row) reconstructing those of order j (column).

    Args:
        orders: {model: matrix}, at least one.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(orders))
    rows = -(-len(orders) // columns)
    side = max(2.4, 0.55 * max(len(matrix.names) for matrix in orders.values()) + 0.6)
    figure = Figure(figsize=(columns * side + 0.9, rows * (side + 0.25) + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, matrix) in zip(axes, orders.items(), strict=False):
        image = _draw(axis, matrix, name, "order of the target", "order of the source", slanted=False)
    for axis in axes[len(orders) :]:
        axis.set_visible(False)
    figure.colorbar(image, ax=list(axes), label="GFRE", shrink=0.9, extend="max")
    figure.suptitle("Cumulants 1..i of a structure reconstructing cumulants 1..j", fontsize=10)
    return figure


def drift(lines: Sequence[Mapping[str, Any]], reference: str) -> "Figure":
    """Draw errors of checkpoints against the step, in both directions, with 90 % intervals: GFRE left, LFRE right.

    Args:
        lines: of each checkpoint "step", and errors such as "gfre_to_reference" with "_low" and "_high".
        reference: the name of the reference.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 3.6), layout="compressed")
    steps = [line["step"] for line in lines]
    short = reference.rpartition("/")[2]
    for axis, measure in zip(figure.subplots(1, 2), ("gfre", "lfre"), strict=True):
        for (direction, arrow), marker in zip(ARROWS.items(), "os", strict=True):
            name = f"{measure}_{direction}"
            mean, low, high = ([line[name + end] for line in lines] for end in ("", "_low", "_high"))
            (drawn,) = axis.plot(steps, mean, marker=marker, markersize=4, label=arrow.format(short))
            axis.fill_between(steps, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        axis.set_title(_title(MEASURES[measure]), fontsize=10, parse_math=False)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("error (1 = no better than the mean)")
    for text in figure.axes[0].legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    return figure


def _title(measure: Measure) -> str:
    return fill(f"{measure.title}: {measure.description}", TITLE_WIDTH)


def _notes(level: Tables) -> list[str]:
    """The sentences under the heat maps."""
    notes = [fill(warning, NOTE_WIDTH) for warning in level.warnings]
    if any(rows.reference for rows in level.baselines.values()):
        notes.insert(0, "* no better than the elements alone.  In brackets: the median of the row errors.")
    return notes


def _draw_table(
    axis: "Axes", table: ErrorMatrix | FeatureValues, baselines: BaselineRows | None = None
) -> "AxesImage | None":
    """One panel; the image of a heat map, None for bars."""
    if isinstance(table, FeatureValues):
        _draw_bars(axis, table)
        return None
    labels = ("target", "source") if table.about.directed else ("", "")
    return _draw(axis, table, _title(table.about), *labels, baselines=baselines)


def _draw_bars(axis: "Axes", table: FeatureValues) -> None:
    places = np.arange(len(table.names))
    values = table.values.numpy()
    bars = axis.barh(places, values, color="#31688e")
    axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axis.set_yticks(places, table.names, fontsize=9, parse_math=False)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set_xlabel(table.about.quantity.label)
    axis.set_title(_title(table.about), fontsize=10, parse_math=False)


def _draw(
    axis: "Axes",
    matrix: ErrorMatrix,
    title: str,
    x: str = "target",
    y: str = "source",
    slanted: bool = True,
    baselines: BaselineRows | None = None,
) -> "AxesImage":
    quantity, beside = matrix.about.quantity, baselines.values if baselines else {}
    values = np.concatenate([matrix.values.numpy(), *(np.array([row]) for row in beside.values())])
    image = axis.imshow(values, vmin=quantity.low, vmax=quantity.high, cmap=COLOURS[quantity.close], aspect="auto")
    ticks = np.arange(len(matrix.names))
    if beside:
        axis.axhline(len(matrix.names) - 0.5, color="white", linewidth=4)
    axis.set_xticks(
        ticks,
        matrix.names,
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
        fontsize=9,
        parse_math=False,
    )
    axis.set_yticks(np.arange(len(values)), [*matrix.names, *beside], fontsize=9, parse_math=False)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.tick_params(length=0)
    size = 9 if len(ticks) <= 6 else 7
    texts = _cell_texts(matrix, baselines)
    for (row, column), value in np.ndenumerate(values):
        axis.text(
            column,
            row,
            texts[row][column],
            ha="center",
            va="center",
            fontsize=size,
            color="white" if quantity.distance(value) > 0.55 else "black",
        )
    return image


def _cell_texts(matrix: ErrorMatrix, baselines: BaselineRows | None) -> list[list[str]]:
    """The value of every cell, of models with the median and a star where elements alone do as well."""
    values = matrix.tolist()
    if baselines is None:
        return [[f"{value:.2f}" for value in row] for row in values]
    beaten = baselines.beaten(values)
    rows = [
        [f"{value:.2f}{'' if beaten[i][j] else '*'}{_median(matrix, i, j)}" for j, value in enumerate(row)]
        for i, row in enumerate(values)
    ]
    for name, of_targets in baselines.values.items():
        medians = baselines.medians.get(name, [None] * len(of_targets))
        rows.append([_short(value, median) for value, median in zip(of_targets, medians, strict=True)])
    return rows


def _median(matrix: ErrorMatrix, source: int, target: int) -> str:
    return f"\n({matrix.summaries[source][target].median:.2f})" if matrix.summaries else ""


def _short(value: float, median: float | None) -> str:
    if isnan(value):
        return "-"
    text = f"{value:.2f}" if value >= 0.005 else f"{value:.0e}"
    return text if median is None else f"{text} ({median:.2f})"
