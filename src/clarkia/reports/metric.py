"""One line of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from clarkia.measures.intervals import Interval

GROUPS = ("marginals", "pairs", "joint", "utility", "validity", "privacy")


@dataclass(frozen=True)
class Metric:
    """A figure with what it takes to read it.

    Attributes:
        name: What is measured.
        group: One of "marginals", "pairs", "joint", "utility", "validity", "privacy".
        value: The figure for the synthetic table.
        better: "lower" or "higher".
        interval: 95 % confidence interval, low and high; None where there is none.
        floor: The figure that fresh real rows score: as good as it gets.
        ceiling: The figure of the group's naive table: no better than knowing nothing.
        skill: ``1 - (value - floor) / (ceiling - floor)``: 1 like fresh real rows, 0 like the naive table; None where
            the two are not farther apart than the interval is wide.
        rows: Numbers of real and synthetic rows behind the value; figures at other counts do not compare.
        note: How to read it, in one or two sentences.
    """

    name: str
    group: str
    value: float | None
    better: str
    interval: tuple[float, float] | None = None
    floor: float | None = None
    ceiling: float | None = None
    skill: float | None = None
    rows: tuple[int, int] | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the metric as plain values, ready for JSON."""
        return {
            "name": self.name,
            "group": self.group,
            "value": self.value,
            "better": self.better,
            "interval": None if self.interval is None else list(self.interval),
            "floor": self.floor,
            "ceiling": self.ceiling,
            "skill": self.skill,
            "rows": None if self.rows is None else list(self.rows),
            "note": self.note,
        }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _skill(
    value: float | None, floor: float | None, ceiling: float | None, better: str, bounds: tuple[float, float] | None
) -> float | None:
    if value is None or floor is None or ceiling is None:
        return None
    span = ceiling - floor if better == "lower" else floor - ceiling
    # No scale where the naive table does as well as fresh rows, up to the figure's own uncertainty.
    least = 1e-9 if bounds is None else max(1e-9, (bounds[1] - bounds[0]) / 2)
    return 1 - (value - floor) / (ceiling - floor) if span > least else None


def metric(
    name: str,
    group: str,
    value: float | None,
    *,
    better: str = "lower",
    interval: Interval | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    rows: tuple[int, int] | None = None,
    note: str = "",
) -> Metric:
    """Make a metric: undefined (NaN) figures become None and the skill is worked out."""
    value, floor, ceiling = _finite(value), _finite(floor), _finite(ceiling)
    bounds = None
    if interval is not None and math.isfinite(interval.low) and math.isfinite(interval.high):
        bounds = (float(interval.low), float(interval.high))
    skill = _skill(value, floor, ceiling, better, bounds)
    return Metric(name, group, value, better, bounds, floor, ceiling, skill, rows, note)
