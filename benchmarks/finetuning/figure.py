"""The picture: how far the features drift on the way, and the errors between all models at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentcmp.measures.strength_search import LEAST_DRIFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLOURS = {
    "all weights": "#0072B2",
    "readout only": "#009E73",
    "anchored": "#CC79A7",
    "from scratch": "#E69F00",
    "from scratch, longer": "#A63603",
}
DIRECTIONS = {"to": ("-", "o", "run \u2192 pretrained"), "from": ("--", "s", "pretrained \u2192 run")}
PROBES = {"family": "held-out structures of the family", "other chemistry": "other chemistry"}


def draw(content: dict[str, Any], layer: str = "last") -> Figure:
    """From the JSON of the study: a column a probe, errors on the way above those at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 10), layout="constrained")
    upper, lower = figure.subplots(2, 2, height_ratios=[1, 1.3], sharey="row")
    names = {"pretrained": content["pretrained"], "labeller": content["labeller"]}
    models = [names.get(name, name) for name in content["matrices"]["models"]]
    for top, bottom, (probe, title) in zip(upper, lower, PROBES.items(), strict=True):
        gfre = np.array(content["matrices"][probe][layer]["gfre"])
        progress(top, content["progress"], probe, layer, max(LEAST_DRIFT, 2 * gfre[0, 0]))
        top.set_title(f"On the way: {title}", fontsize=11)
        image = matrix(bottom, models, gfre)
        bottom.set_title(f"At the end: {title}", fontsize=11)
    upper[0].set_ylabel(f"GFRE against the pretrained features ({layer} layer)")
    lower[0].set_ylabel("source")
    figure.colorbar(image, ax=lower, label="GFRE (1 = no better than the mean)", extend="max", shrink=0.8)
    figure.legend(handles=_handles(content["progress"]), loc="outside upper center", ncols=4, frameon=False)
    return figure


def progress(axis: Axes, runs: dict[str, list[dict[str, Any]]], probe: str, layer: str, least: float) -> None:
    """GFRE of each run against the step, in both directions; errors up to `least`, of equal features, are not drawn."""
    for name, records in runs.items():
        steps = [record["step"] for record in records]
        for direction, (line, marker, _) in DIRECTIONS.items():
            errors = np.array([record["gfre"][probe][layer][direction] for record in records])
            drawn = np.where(errors > least, errors, np.nan)
            axis.plot(steps, drawn, line, color=COLOURS[name], marker=marker, markersize=3.5)
    last = max(record["step"] for records in runs.values() for record in records)
    axis.axhline(1, color="0.7", linewidth=0.8, zorder=0)
    axis.set_yscale("log")
    axis.set_xscale("symlog", linthresh=5)
    ticks = [step for step in (0, 2, 5, 10, 20, 60, 200, 600, 2000) if step <= last]
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.set_xticks([], minor=True)
    axis.set_xlim(-0.3, 1.15 * last)
    axis.set_xlabel("training step")


def matrix(axis: Axes, names: list[str], values: np.ndarray) -> AxesImage:
    """GFRE between all models at the end, sources in rows."""
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis_r")
    ticks = np.arange(len(names))
    axis.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    axis.set_xlabel("target")
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.55 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8.5)
    return image


def _handles(runs: dict[str, Any]) -> list[Any]:
    """Runs by colour, directions by line and marker."""
    from matplotlib.lines import Line2D

    found = [Line2D([], [], color=COLOURS[name], label=name, linewidth=2.5) for name in runs]
    for line, marker, label in DIRECTIONS.values():
        found.append(Line2D([], [], color="0.3", linestyle=line, marker=marker, markersize=3.5, label=label))
    return found
