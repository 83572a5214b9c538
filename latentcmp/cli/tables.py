"""Tables in the terminal: measures, the configuration, structures that were left out, and the time of each part."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.result import Comparison
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.models.batching import BATCH_ATOMS

LISTED = 10
MODEL_PARTS = ("imports and loading", "graphs", "inference")
SHADES = ((0.1, "bold green"), (0.3, "green"), (0.6, "yellow"), (1.0, "red"))
LEVELS = {"atoms": "between atoms", "structures": "between structures (cumulants)"}


def show_config(console: Console, config: CompareConfig, structures: str, output: str) -> None:
    """Print the resolved configuration, one key a line."""
    table = Table(title="Configuration", title_justify="left", show_header=False, box=None, padding=(0, 2))
    device = choose_device(config.device)
    shown = config.model_dump() | {
        "models": ", ".join(config.models),
        "measures": ", ".join(config.measures),
        "order": config.cumulant_order,
        "device": device,
        "batch_atoms": config.batch_atoms or BATCH_ATOMS[device.type],
        "test_fraction": None if config.preset else config.tested,
        "n_local_points": config.n_local_points or "the smaller width of the pair",
    }
    for key, value in {"structures": structures, "output": output, **shown}.items():
        table.add_row(Text(key, style="cyan"), "-" if value is None else str(value))
    console.print(table)


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print every measure, then notes on structures that were left out and the time of each part."""
    for key, title in LEVELS.items():
        level = getattr(comparison, key)
        for values in level.tables if level else ():
            rows = f"{level.n_train:,} training, {level.n_test:,} test rows"
            console.print(values_table(values, f"{values.about.title} {title}: {rows}", console.width))
    for name, matrix in comparison.orders.items():
        console.print(matrix_table(matrix, f"GFRE of order i -> order j: {name}", console.width))
    for note in [*dominated(comparison), *notes(comparison.manifest)]:
        console.print(note)
    if comparison.timing:
        console.print(_timing_line(comparison.timing), style="dim")


def values_table(values: ErrorMatrix | FeatureValues, title: str, width: int = 80) -> Group:
    """A matrix with sources in rows, or values of single matrices in one row."""
    if isinstance(values, ErrorMatrix):
        return matrix_table(values, title, width)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("matrix", style="bold", overflow="fold")
    table.add_column(values.about.quantity.label, justify="right")
    for name, value in zip(values.names, values.tolist(), strict=True):
        table.add_row(Text(name), f"{value:.3f}")
    return Group(Text(title, "italic"), table)


def matrix_table(matrix: ErrorMatrix, title: str, width: int = 80) -> Group:
    """A matrix with sources in rows, greener for closer pairs; names too wide for columns are numbered."""
    fits = 20 + sum(max(len(name), 6) + 2 for name in matrix.names) < width
    heads = matrix.names if fits else tuple(str(number) for number in range(1, len(matrix.names) + 1))
    rows = matrix.names if fits else tuple(f"{n} {name}" for n, name in zip(heads, matrix.names, strict=True))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("source \\ target" if matrix.about.directed else "", style="bold", overflow="fold")
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=6)
    distance = matrix.about.quantity.distance
    for name, row in zip(rows, matrix.tolist(), strict=True):
        table.add_row(Text(name), *(Text(f"{value:.3f}", style=_shade(distance(value))) for value in row))
    return Group(Text(title, "italic"), table)


def dominated(comparison: Comparison) -> list[RenderableType]:
    """Structures that alone have over half of the squared error of a cell."""
    cells: dict[str, list[str]] = {}
    for key, title in LEVELS.items():
        for matrix in getattr(comparison, key) or ():
            for name, row in zip(matrix.names, matrix.summaries, strict=False):  # no summaries without row errors
                for target, cell in zip(matrix.names, row, strict=True):
                    if cell.share > 0.5 and name != target:
                        cells.setdefault(cell.culprit, []).append(f"{matrix.about.title} {title}")
    return [
        Text(
            f"{culprit} alone carries over half of the squared error of {len(found)} cell{'s' * (len(found) > 1)} "
            f"({', '.join(sorted(set(found)))}); results.json has the medians",
            "yellow",
        )
        for culprit, found in sorted(cells.items(), key=lambda item: -len(item[1]))[:LISTED]
    ]


def notes(manifest: Metadata) -> list[RenderableType]:
    """Structures that were left out or changed, one note for each reason."""
    found = manifest.get("structures", {})
    lines: list[RenderableType] = []
    if found.get("skipped"):
        lines.append(_listing("skipped for all models", [f"{s['id']} {s['reason']}" for s in found["skipped"]]))
    if found.get("boxed"):
        lines.append(_listing("put into a periodic box for the models that need one", found["boxed"]))
    if found.get("differing"):
        lines.append(_listing("with positions or cells that differ between the features", found["differing"]))
    if found.get("n_single_atoms"):
        single = _structures(found["n_single_atoms"])
        lines.append(Text(f"{single} of one atom: cumulants of order > 1 are 0", "yellow"))
    return lines


def _structures(count: int) -> str:
    return f"{count} structure{'s' * (count != 1)}"


def _listing(what: str, items: list[str]) -> Group:
    more = [Text(f"  ... and {len(items) - LISTED} more, all in results.json")] if len(items) > LISTED else []
    return Group(Text(f"{_structures(len(items))} {what}:", "yellow"), *(Text(f"  {i}") for i in items[:LISTED]), *more)


def _shade(value: float) -> str:
    return next((style for limit, style in SHADES if value < limit), "bold red")


def _timing_line(timing: dict[str, float]) -> str:
    """Seconds by part, and the share that latentcmp spent itself, outside what the model packages need anyway."""
    total = timing["total"]
    own = 1 - sum(timing.get(part, 0.0) for part in MODEL_PARTS) / total
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in timing.items() if name != "total")
    return f"Time: {parts}; {total:.1f} s in all, {own:.0%} outside imports, graphs and inference"


def check_table(title: str, rows: Iterable[tuple[str, str, bool, str]]) -> Table:
    """Self-test results: model, check, whether it passed, and the figure."""
    table = Table(title=title, title_justify="left")
    for column in ("model", "check", "", "found"):
        table.add_column(column, overflow="fold")
    for model, check, passed, detail in rows:
        table.add_row(model, check, Text("ok", "green") if passed else Text("FAILED", "bold red"), detail)
    return table
