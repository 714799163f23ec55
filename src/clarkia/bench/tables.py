"""Tables as Markdown, and the figures' common look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from clarkia.measures.intervals import Interval
from clarkia.measures.shift import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 3.4
"""Side of a panel in inches."""

COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#1971c2", "#868e96", "#f08c00")
"""Of lines, the first for what is compared with."""


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table; the first column is aligned left, the others right."""
    rule = "|".join(["---", *["---:"] * (len(header) - 1)])
    lines = [f"| {' | '.join(header)} |", f"|{rule}|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def percent(share: float) -> str:
    """A share with one digit after the point; a dash for none."""
    return "–" if share != share else f"{100 * share:.1f} %"


def rate(hits: int, n: int) -> str:
    """A share with its Wilson interval of 95 %; a dash where there is nothing to count."""
    if not n:
        return "–"
    interval: Interval = wilson_interval(hits, n)
    return f"{percent(hits / n)} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def panels(columns: int, width: float = PANEL) -> tuple[Figure, list[Axes]]:
    """A figure that no window knows of, with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, PANEL), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False).flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes
