"""Error matrices as HTML tables for notebooks."""

from collections.abc import Sequence
from html import escape


def matrix_html(measure: str, names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """A table with one shaded cell a pair, sources in rows."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>{''.join(map(_cell, row))}</tr>"
        for name, row in zip(names, values, strict=True)
    )
    caption = f"{measure.upper()} (source in rows, target in columns)"
    return f"<table><caption>{caption}</caption><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: float) -> str:
    share = min(max(value, 0.0), 1.0)
    return f"<td style='text-align:right;background:rgba(49,104,142,{0.7 * share:.2f})'>{value:.3f}</td>"
