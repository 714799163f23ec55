"""A report as a table of plain text."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clarkia.reports.metric import Metric
    from clarkia.reports.report import Report


def number(value: float | None) -> str:
    """Write a figure with about three significant digits and without an exponent; a dash for none."""
    if value is None:
        return "–"
    size = abs(value)
    if size < 1e-6 or size >= 1e15:
        return "0" if size == 0 else f"{value:.1e}"
    if size < 0.1:
        return f"{value:.{2 - math.floor(math.log10(size))}f}"
    return f"{value:,.3f}" if size < 1000 else f"{value:,.0f}"


def interval(metric: Metric) -> str:
    """The 95 % interval, or nothing."""
    return "" if metric.interval is None else f"{number(metric.interval[0])} to {number(metric.interval[1])}"


def render_text(report: Report, width: int) -> str:
    """Render a report for a terminal of the given width, without colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    counts = ", ".join(f"{n:,} {word}" for word, n in report.rows.items())
    console.print(Text(f"{report.title}: {counts} rows, seed {report.seed}"))
    for word, used in report.rows_used.items():
        if used < report.rows[word]:
            console.print(Text(f"  {used:,} of the {word} rows were used."))
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="")
    table.add_column("metric")
    for heading in ("value", "95% interval", "floor", "ceiling", "skill", "rows"):
        table.add_column(heading, justify="right")
    group = ""
    for metric in report.metrics:
        if metric.group != group:
            group = metric.group
            table.add_row(Text(group.upper()))
        rows = "" if metric.rows is None else f"{metric.rows[0]:,} : {metric.rows[1]:,}"
        skill = "–" if metric.skill is None else f"{metric.skill:.2f}"
        figures = (number(metric.value), interval(metric), number(metric.floor), number(metric.ceiling), skill, rows)
        table.add_row(Text(f"  {metric.name}"), *figures)
    console.print(table)
    for finding in report.findings:
        console.print(Text(f"{finding.title}. {finding.text}"))
    return console.file.getvalue()  # type: ignore[attr-defined]
