"""Matrices of values as HTML tables for notebooks."""

from collections.abc import Callable, Sequence
from html import escape


def matrix_html(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    shade: Callable[[float], float],
) -> str:
    """Return an HTML table with one shaded cell for each value.

    Args:
        caption: the caption of the table, plain text.
        rows: names of the rows.
        columns: names of the columns.
        values: numbers, [row][column].
        shade: darkness of a cell in [0, 1] from its value.
    """

    def cell(value: float) -> str:
        background = f"rgba(49,104,142,{0.7 * shade(value):.2f})"
        return f"<td style='text-align:right;background:{background}'>{value:.3f}</td>"

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>{''.join(map(cell, row))}</tr>"
        for name, row in zip(rows, values, strict=True)
    )
    caption = f"<caption>{escape(caption)}</caption>"
    return f"<table>{caption}<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
