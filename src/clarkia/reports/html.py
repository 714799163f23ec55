"""A report as one self-contained HTML page: no script, no request, readable in light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from clarkia.reports import plots
from clarkia.reports.metric import GROUPS, Metric
from clarkia.reports.privacy_words import privacy_answers
from clarkia.reports.profiles import ColumnProfile, Histogram
from clarkia.reports.summary import Finding, beyond_floor, group_skill
from clarkia.reports.text import number

if TYPE_CHECKING:
    from clarkia.reports.collection import CollectionReport
    from clarkia.reports.table import TableReport

MAX_PLOTS = 60  # columns drawn; a wider table shows the farthest and lists the others

TITLES = {
    "marginals": "Single columns",
    "pairs": "Pairs of columns",
    "joint": "Whole rows",
    "utility": "Utility",
    "validity": "Validity",
    "privacy": "Privacy",
}
NAIVE = {
    "marginals": "uniform",
    "pairs": "unrelated",
    "joint": "unrelated",
    "utility": "unrelated",
    "validity": "unrelated",
    "privacy": "copied",
}
QUESTIONS = {
    "marginals": "Does every column have the real distribution?",
    "pairs": "Do columns depend on each other as they really do?",
    "joint": "Can a classifier or a nearest neighbour tell whole rows from real ones?",
    "utility": "Does a model learn from synthetic rows what it would learn from real ones?",
    "validity": "Does every row obey the table's own rules?",
    "privacy": "Do synthetic rows give away rows the generator was trained on?",
}


@dataclass(frozen=True)
class SkillBar:
    """Positions in percent on the way from the naive table (0) to fresh real rows (100)."""

    at: float
    low: float
    high: float
    tone: str


def skill_bar(metric: Metric) -> SkillBar | None:
    """Place a metric and its interval on the way from ceiling to floor, cut to the bar's ends."""
    value, floor, ceiling = metric.value, metric.floor, metric.ceiling
    if metric.skill is None or value is None or floor is None or ceiling is None:
        return None

    def place(figure: float) -> float:
        return float(np.clip(100 * (1 - (figure - floor) / (ceiling - floor)), 0, 100))

    low, high = sorted(place(end) for end in metric.interval or (value, value))
    if metric.group == "privacy":  # a small trace is a trace, however far from copying everything
        tone = "bad" if beyond_floor(metric) else "good"
    else:
        tone = "good" if metric.skill >= 0.9 else "fair" if metric.skill >= 0.6 else "bad"
    return SkillBar(place(value), low, high, tone)


def naive_word(metric: Metric) -> str:
    """Name the naive table of a metric in one word."""
    return "copied" if metric.name == "Authenticity" else NAIVE[metric.group]


def _plot(column: ColumnProfile) -> Markup:
    draw = plots.histogram if isinstance(column.plot, Histogram) else plots.bars
    return draw(column.plot, column.name)  # type: ignore[arg-type]


def _drawn(columns: tuple[ColumnProfile, ...]) -> tuple[ColumnProfile, ...]:
    """Columns to draw, in the table's order: the farthest when there are too many."""
    farthest = sorted(columns, key=lambda c: c.floor - c.distance)[:MAX_PLOTS]
    return tuple(c for c in columns if c in farthest)


def _cards(report: TableReport) -> list[tuple[Finding, str, float | None]]:
    """Findings below the headline, each with its group's mean skill."""
    return [
        (finding, TITLES[finding.group], group_skill(report.metrics, finding.group))
        for finding in report.findings
        if finding.group in TITLES
    ]


@cache
def _environment() -> Environment:
    folder = files("clarkia.reports").joinpath("templates")
    names = ("page.html.jinja", "table.html.jinja", "collection.html.jinja", "figures.html.jinja", "report.css")
    environment = Environment(
        loader=DictLoader({name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": plots.percent, "shorten": plots.shorten}
    return environment


def render_html(report: TableReport) -> str:
    """Render a report as one HTML page."""
    headline = next((f for f in report.findings if f.group == "headline"), None)
    groups = [(g, TITLES[g], QUESTIONS[g], [m for m in report.metrics if m.group == g]) for g in GROUPS]
    drawn = _drawn(report.columns)
    enough = len(report.pairs.names) > 1
    return (
        _environment()
        .get_template("table.html.jinja")
        .render(
            report=report,
            noun="table",
            headline=headline,
            cards=_cards(report),
            groups=[group for group in groups if group[3]],
            skill_bar=skill_bar,
            naive_word=naive_word,
            scaled=any(metric.skill is not None for metric in report.metrics),
            naive=NAIVE,
            histograms=[(c, _plot(c)) for c in drawn if c.kind == "numeric"],
            bar_charts=[(c, _plot(c)) for c in drawn if c.kind == "categorical"],
            hidden=len(report.columns) - len(drawn),
            heatmap=plots.heatmap(report.pairs) if enough else None,
            heatmap_scale=plots.heatmap_scale(report.pairs) if enough else None,
            heatmap_limit=plots.HEATMAP_COLUMNS,
            worst_pairs=report.pairs.worst(8) if enough else [],
            answers=privacy_answers(report.metrics),
        )
    )


COLLECTION_QUESTIONS = {
    "distance": ("Distance", "How far are the two laws apart?"),
    "support": ("Support and diversity", "Does one set lie where the other does, and reach all of it?"),
    "classifier": ("Classifier", "Can a classifier tell them apart?"),
    "memorisation": ("Copies", "Do generated rows repeat rows the generator was trained on?"),
}


def render_collection(report: CollectionReport) -> str:
    """Render a report on two collections as one HTML page."""
    from clarkia.reports.collection import NOUNS

    headline, *cards = report.findings
    groups = [(g, *words, [m for m in report.metrics if m.group == g]) for g, words in COLLECTION_QUESTIONS.items()]
    return (
        _environment()
        .get_template("collection.html.jinja")
        .render(
            report=report,
            noun=NOUNS[report.kind],
            headline=headline,
            cards=cards,
            groups=[group for group in groups if group[3]],
            skill_bar=skill_bar,
            naive_word=naive_word,
            scaled=False,
            plots=[(shadow, plots.histogram(shadow.histogram, shadow.name)) for shadow in report.shadows],
        )
    )
