"""What every report can do: its figures by name, as JSON, as text and as a page."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clarkia.atomic import replacing
from clarkia.reports.metric import Metric
from clarkia.reports.summary import Finding


class Report(ABC):
    """Figures with words about them; a report on a new kind of data says what is in it and how it is drawn.

    Attributes:
        metrics: All figures, by group.
        findings: What the figures say, in words, the headline first.
        rows: Numbers of rows given, by set.
        rows_used: Numbers of rows in use, by set.
        seed: Seed of everything random.
    """

    metrics: tuple[Metric, ...]
    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    rows_used: Mapping[str, int]
    seed: int

    @property
    @abstractmethod
    def title(self) -> str:
        """What the report is on."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return everything but the plots as plain values."""

    @abstractmethod
    def page(self) -> str:
        """Return the report as one self-contained HTML page."""

    def __getitem__(self, name: str) -> Metric:
        """Return the metric of this name."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"No metric '{name}'; there are {', '.join(repr(m.name) for m in self.metrics)}.")

    def to_json(self) -> str:
        """Return the report as JSON text, without NaN."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_text(self, width: int = 100) -> str:
        """Return the report as a table of plain text."""
        from clarkia.reports.text import render_text

        return render_text(self, width)

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one self-contained HTML file, whole or not at all, and return its path.

        Raises:
            DataError: The path cannot be written.
        """
        with replacing(path, overwrite=True) as beside:
            beside.write_text(self.page(), encoding="utf-8")
        return Path(path)
