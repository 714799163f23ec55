"""Rows of an Arrow table on the terminal."""

from collections.abc import Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING

from .terminal import console, counted, grid, listed, printable, say

if TYPE_CHECKING:
    import pyarrow as pa

_WIDEST = 24  # characters of a cell
_GAP = 3  # between two columns


def show_rows(table: "pa.Table", *, before: Sequence[tuple[str, Sequence[str]]] = (), limit: int = 10) -> None:
    """Print the first rows of a table, with as many columns as the terminal has room for, and name the others.

    Args:
        table: the table.
        before: columns to stand in front of it, aligned right: titles and cells.
        limit: most rows to print.
    """
    shown = table.slice(0, limit)
    columns = [(title, list(cells)[:limit], True) for title, cells in before]
    for field in shown.schema:
        cells = [cell_text(value) for value in shown.column(field.name).to_pylist()]
        columns.append((shorten(field.name), cells, _is_number(field.type)))
    fitting = max(_fitting([[title, *cells] for title, cells, _ in columns], console().width), len(before) + 1)
    kept = columns[:fitting]
    right = [place for place, (_, _, number) in enumerate(kept) if number]
    grid([title for title, _, _ in kept], zip(*(cells for _, cells, _ in kept), strict=True), right=right)
    if rest := columns[fitting:]:
        say(f"and {counted(len(rest), 'more column')}: {listed(title for title, _, _ in rest)}", "dim")


def cell_text(value: object) -> str:
    """A cell as a person writes it; nothing for a missing one."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return shorten(str(value))


def shorten(text: str) -> str:
    """Text on one line and not too long."""
    text = printable(text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _fitting(columns: Sequence[Sequence[str]], room: int) -> int:
    """How many columns stand side by side in so many characters."""
    for place, texts in enumerate(columns):
        room -= max(map(len, texts)) + (_GAP if place else 0)
        if room < 0:
            return place
    return len(columns)


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
