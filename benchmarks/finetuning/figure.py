"""The picture: how far the features drift on the way, and the errors between all models at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"all weights": "#0072B2", "readout only": "#009E73", "from scratch": "#D55E00", "anchored": "#CC79A7"}


def draw(content: dict[str, Any], probe: str = "other chemistry", layer: str = "last") -> Figure:
    """Two panels from the JSON of the study."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    progress(left, content["progress"], probe, layer)
    matrix(right, content["matrices"]["models"], np.array(content["matrices"][probe][layer]))
    return figure


def progress(axis: Axes, runs: dict[str, list[dict[str, Any]]], probe: str, layer: str) -> None:
    """GFRE of each run against the step, in both directions."""
    for name, records in runs.items():
        steps = [record["step"] for record in records]
        for direction, style in (("to", "-"), ("from", "--")):
            errors = [record["gfre"][probe][layer][direction] for record in records]
            axis.plot(steps, errors, style, color=COLOURS[name], marker="o", markersize=3.5)
        axis.plot([], [], color=COLOURS[name], label=name)
    axis.plot([], [], "-", color="0.4", label="GFRE(t → 0)")
    axis.plot([], [], "--", color="0.4", label="GFRE(0 → t)")
    axis.set_xlabel("training step t")
    axis.set_ylabel("error against the pretrained features")
    axis.legend(frameon=False, fontsize=9)


def matrix(axis: Axes, names: list[str], values: np.ndarray) -> None:
    """GFRE between all models at the end, sources in rows."""
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis_r")
    ticks = np.arange(len(names))
    axis.set_xticks(ticks, names, rotation=35, ha="right")
    axis.set_yticks(ticks, names)
    axis.set_xlabel("target")
    axis.set_ylabel("source")
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.55 else "black")
    axis.figure.colorbar(image, ax=axis, label="GFRE (1 = no better than the mean)", extend="max")
