"""Figures: the heat map of errors between models, what each cumulant order adds, a training's drift."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from latentcmp.comparison.result import Comparison
    from latentcmp.measures.error_matrix import ErrorMatrix

COLOURS = "viridis_r"
ARROWS = {"to_reference": "checkpoint → {}", "from_reference": "{} → checkpoint"}
TITLES = {
    "gfre": "GFRE: one linear map",
    "gfrd": "GFRD: linear against orthogonal map",
    "lfre": "LFRE: a map for every neighbourhood",
}


def heatmap(comparison: "Comparison") -> "Figure":
    """Matrices between atoms side by side: sources in rows, targets in columns, colours from 0 to 1."""
    from matplotlib.figure import Figure

    matrices = list(comparison.atoms)
    n, longest = len(comparison.models), max(map(len, comparison.models))
    side = max(2.2, 0.75 * n) + 0.075 * longest
    figure = Figure(figsize=(len(matrices) * (side + 0.4) + 0.9, side + 0.9), layout="compressed")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axis, matrix in zip(axes, matrices, strict=True):
        image = _draw(axis, matrix, TITLES[matrix.measure])
    figure.colorbar(image, ax=list(axes), label="error (1 = no better than the mean)", shrink=0.9, extend="max")
    figure.suptitle(f"{comparison.atoms.n_test:,} test atoms, {comparison.atoms.n_train:,} training atoms", fontsize=10)
    return figure


def cumulants(comparison: "Comparison") -> "Figure":
    """For each model, descriptors of order i (row) rebuilding those of order j (column)."""
    from matplotlib.figure import Figure

    names = list(comparison.orders)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    order = len(comparison.orders[names[0]].names)
    side = max(2.4, 0.55 * order + 0.6)
    figure = Figure(figsize=(columns * side + 0.9, rows * (side + 0.25) + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        image = _draw(axis, comparison.orders[name], name, "order of the target", "order of the source", slanted=False)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.colorbar(image, ax=list(axes), label="GFRE", shrink=0.9, extend="max")
    figure.suptitle("Cumulants 1..i of a structure rebuilding cumulants 1..j", fontsize=10)
    return figure


def drift(lines: "Sequence[Mapping[str, Any]]", reference: str) -> "Figure":
    """Errors of checkpoints against the step, in both directions, with their 90 % intervals: GFRE left, LFRE right.

    `lines` are those of `latentcmp.comparison.checkpoints.drift`.
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
        axis.set_title(TITLES[measure], fontsize=10, parse_math=False)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("error (1 = no better than the mean)")
    for text in figure.axes[0].legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    return figure


def _draw(
    axis: "Axes", matrix: "ErrorMatrix", title: str, x: str = "target", y: str = "source", slanted: bool = True
) -> "AxesImage":
    values = matrix.values.numpy()
    image = axis.imshow(values, vmin=0, vmax=1, cmap=COLOURS)
    ticks = np.arange(len(matrix.names))
    axis.set_xticks(
        ticks,
        matrix.names,
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
        fontsize=9,
        parse_math=False,
    )
    axis.set_yticks(ticks, matrix.names, fontsize=9, parse_math=False)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.tick_params(length=0)
    size = 10 if len(ticks) <= 6 else 7
    for (row, column), value in np.ndenumerate(values):
        axis.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if value > 0.55 else "black",
        )
    return image
