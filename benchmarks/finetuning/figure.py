"""The picture: how far the features drift on the way, and the errors between all models at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "all weights": "#0072B2",
    "readout only": "#009E73",
    "anchored": "#CC79A7",
    "from scratch": "#E69F00",
    "from scratch, longer": "#A63603",
}
NOTHING = 1e-5  # errors below are rounding, and not drawn on the logarithmic axis


def draw(content: dict[str, Any], probe: str = "other chemistry", layer: str = "last") -> Figure:
    """Two panels from the JSON of the study."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    progress(left, content["progress"], probe, layer)
    names = {"pretrained": content["pretrained"], "labeller": content["labeller"]}
    models = [names.get(name, name) for name in content["matrices"]["models"]]
    matrix(right, models, np.array(content["matrices"][probe][layer]["gfre"]))
    return figure


def progress(axis: Axes, runs: dict[str, list[dict[str, Any]]], probe: str, layer: str) -> None:
    """GFRE of each run against the step, in both directions."""
    for name, records in runs.items():
        steps = [record["step"] for record in records]
        for direction, style in (("to", "-"), ("from", "--")):
            errors = np.array([record["gfre"][probe][layer][direction] for record in records])
            axis.plot(
                steps,
                np.where(errors > NOTHING, errors, np.nan),
                style,
                color=COLOURS[name],
                marker="o",
                markersize=3.5,
            )
    axis.axhline(1, color="0.7", linewidth=0.8, zorder=0)
    axis.set_yscale("log")
    axis.set_xlim(left=-1)
    axis.set_xlabel("training step t")
    axis.set_ylabel("GFRE against the pretrained features")
    axis.set_title(f"On the way: {layer} layer, {probe}", fontsize=11)
    _legends(axis)


def matrix(axis: Axes, names: list[str], values: np.ndarray) -> None:
    """GFRE between all models at the end, sources in rows."""
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis_r")
    ticks = np.arange(len(names))
    axis.set_xticks(ticks, names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    axis.set_xlabel("target")
    axis.set_ylabel("source")
    axis.set_title("At the end", fontsize=11)
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.55 else "black"
        text = f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"
        axis.text(column, row, text, ha="center", va="center", color=colour)
    axis.figure.colorbar(image, ax=axis, label="GFRE (1 = no better than the mean)", extend="max")


def _legends(axis: Axes) -> None:
    """Runs by colour, directions by line."""
    from matplotlib.lines import Line2D

    runs = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    lines = (("-", "run → pretrained"), ("--", "pretrained → run"))
    directions = [Line2D([], [], color="0.3", linestyle=style, label=label) for style, label in lines]
    place = {"frameon": False, "fontsize": 9, "loc": "upper center", "ncols": 3}
    axis.legend(handles=[*runs, *directions], bbox_to_anchor=(0.5, -0.14), **place)
