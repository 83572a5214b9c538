"""Figures: the heat map of errors between models, and what each cumulant order adds."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from latentcmp.comparison import Comparison, ErrorMatrix

COLOURS = "viridis_r"
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
