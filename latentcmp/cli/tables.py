"""Tables in the terminal: measures, the configuration, structures that were left out, and the time of each part."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.result import Comparison
from latentcmp.measures.baseline_rows import BaselineRows
from latentcmp.measures.effective_structures import Size
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.within_elements import WithinElements
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
        "solver": config.regularised_by,
        "statistics": config.accumulated_as,
        "n_local_points": config.n_local_points
        or f"the smaller width of the pair{'' if config.preset else ', at most 64'}",
    }
    for key, value in {"structures": structures, "output": output, **shown}.items():
        table.add_row(Text(key, style="cyan"), "-" if value is None else str(value))
    console.print(table)


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print every measure, then notes on structures that were left out and the time of each part."""
    for key, title in LEVELS.items():
        level = getattr(comparison, key)
        for values in level.tables if level else ():
            rows = level.rows
            beside = level.context.baselines.get(values.measure)
            console.print(values_table(values, f"{values.about.title} {title}: {rows}", console.width, beside))
            if beside:
                console.print(baseline_table(beside, console.width))
    for name, matrix in comparison.orders.items():
        console.print(matrix_table(matrix, f"GFRE of order i -> order j: {name}", console.width))
    for level in filter(None, (comparison.atoms, comparison.structures)):
        if level.context.sizes:
            console.print(_sizes(level.context.sizes), style="dim")
        within = level.context.within_elements
        if within:
            console.print(within_table(within, console.width))
        for warning in level.context.warnings:
            console.print(Text(warning, "yellow"))
    for note in [*dominated(comparison), *notes(comparison.manifest)]:
        console.print(note)
    if any(rows.reference for rows in comparison.atoms.context.baselines.values()):
        console.print("(in brackets: medians)   * no better than the elements alone", style="dim")
    if comparison.timing:
        console.print(_timing_line(comparison.timing), style="dim")


def values_table(
    values: ErrorMatrix | FeatureValues, title: str, width: int = 80, baselines: BaselineRows | None = None
) -> Group:
    """A matrix with sources in rows, or values of single matrices in one row."""
    if isinstance(values, ErrorMatrix):
        return matrix_table(values, title, width, baselines)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("matrix", style="bold", overflow="fold")
    table.add_column(values.about.quantity.label, justify="right")
    for name, value in zip(values.names, values.tolist(), strict=True):
        table.add_row(Text(name), f"{value:.3f}")
    return Group(Text(title, "italic"), table)


def within_table(within: WithinElements, width: int = 80) -> Group:
    """Global errors within elements, and the share of the variance that lies between them."""
    matrix = ErrorMatrix("gfre", tuple(within.shares), within.errors)
    title = f"GFRE within elements: {within.n_rows:,} atoms of {len(within.elements)} elements in 8 groups or more"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in within.shares.items())
    return Group(matrix_table(matrix, title, width), Text(f"Share of the variance between these elements: {shares}"))


def _sizes(sizes: Mapping[str, Size]) -> str:
    """Rows for each column and the effective rank of each matrix."""
    parts = (f"{name} {size.rows_per_column:.0f}, {size.effective_rank:.1f}" for name, size in sizes.items())
    return f"Training rows for each column, and effective rank: {'; '.join(parts)}"


def baseline_table(rows: BaselineRows, width: int = 80) -> Table:
    """Errors of baselines, one a line, with targets in columns, named or numbered as those of a matrix."""
    heads = rows.targets if _fits(rows.targets, width) else _numbered(rows.targets)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("baseline \\ target", style="bold", overflow="fold")
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=6)
    for name, values in rows.values.items():
        table.add_row(Text(name), *map(_short, values))
    return table


def _short(value: float) -> str:
    """An error of a baseline, which may be as small as noise, or NaN where it does not have the target."""
    if isnan(value):
        return "-"
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}"


def matrix_table(matrix: ErrorMatrix, title: str, width: int = 80, baselines: BaselineRows | None = None) -> Group:
    """A matrix with sources in rows, greener for closer pairs; names too wide for columns are numbered.

    Medians are in brackets, and errors that are no better than those of the elements have a star.
    """
    fits = _fits(matrix.names, width, 13 if matrix.summaries else 6)
    heads = matrix.names if fits else _numbered(matrix.names)
    rows = matrix.names if fits else tuple(f"{n} {name}" for n, name in zip(heads, matrix.names, strict=True))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("source \\ target" if matrix.about.directed else "", style="bold", overflow="fold")
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=6)
    distance = matrix.about.quantity.distance
    beaten = baselines.beaten(matrix.tolist()) if baselines else None
    for i, (name, row) in enumerate(zip(rows, matrix.tolist(), strict=True)):
        texts = [Text(f"{value:.3f}", style=_shade(distance(value))) for value in row]
        for j, text in enumerate(texts):
            if beaten and not beaten[i][j]:
                text.append("*")
            if matrix.summaries:
                text.append(f" ({matrix.summaries[i][j].median:.2f})", style="dim")
        table.add_row(Text(name), *texts)
    return Group(Text(title, "italic"), table)


def _fits(names: Sequence[str], width: int, least: int = 6) -> bool:
    return 20 + sum(max(len(name), least) + 2 for name in names) < width


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(1, len(names) + 1))


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
