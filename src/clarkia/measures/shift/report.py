"""What came of it: accuracies with their intervals, calibration, paired tests, robustness beside the trend."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from clarkia.atomic import replacing
from clarkia.measures.intervals import Interval
from clarkia.measures.shift.predictors import INVALID
from clarkia.measures.shift.statistics import PairedTest, cluster_bootstrap, mcnemar, wilson_interval

BINS = 10


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers.

    Attributes:
        value: The share; invalid answers count as wrong.
        interval: Its 95 % Wilson interval, or the bootstrap over clusters where there are any.
        rows: Number of rows.
    """

    value: float
    interval: Interval
    rows: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answers of one classifier in one scenario.

    Attributes:
        classifier: Its name.
        scenario: Name of the scenario.
        conditional: Rows were chosen by their outcome: levels mean nothing beside those of other scenarios.
        rows: Row of the data set of each answer, ``(n,)``.
        domains: Its domain.
        labels: Its class.
        answers: The class that was answered, -1 for no valid answer.
        confidence: Probability of the answer, NaN for no valid one.
        clusters: Cluster of each row; None for none.
    """

    classifier: str
    scenario: str
    conditional: bool
    rows: Int64[np.ndarray, " n"]
    domains: np.ndarray
    labels: Int64[np.ndarray, " n"]
    answers: Int64[np.ndarray, " n"]
    confidence: Float64[np.ndarray, " n"]
    clusters: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Which answers are right, booleans ``(n,)``."""
        return self.answers == self.labels

    @property
    def accuracy(self) -> Accuracy:
        """Share of right answers among all rows."""
        return self._of(np.ones(len(self.rows), dtype=bool))

    @property
    def valid_accuracy(self) -> Accuracy:
        """Share of right answers among the valid ones."""
        return self._of(self.answers != INVALID)

    @property
    def invalid_rate(self) -> float:
        """Share of answers that are not valid."""
        return float((self.answers == INVALID).mean())

    @property
    def by_domain(self) -> dict[str, Accuracy]:
        """Accuracy in each domain, in the order they first occur."""
        return {str(name): self._of(self.domains == name) for name in dict.fromkeys(self.domains.tolist())}

    @property
    def by_class(self) -> dict[int, Accuracy]:
        """Accuracy on each class that occurs."""
        return {int(c): self._of(self.labels == c) for c in np.unique(self.labels)}

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the accuracies on each class."""
        return float(np.mean([a.value for a in self.by_class.values()]))

    @property
    def macro(self) -> float:
        """Mean of the accuracies in each domain."""
        return float(np.mean([a.value for a in self.by_domain.values()]))

    @property
    def worst_domain(self) -> tuple[str, Accuracy]:
        """The domain of the lowest accuracy, and that accuracy."""
        return min(self.by_domain.items(), key=lambda item: item[1].value)

    @property
    def calibration_error(self) -> float:
        """Mean gap of confidence and accuracy over valid answers, in ten bins of equal numbers; NaN without any."""
        valid = self.answers != INVALID
        confidence, right = self.confidence[valid], self.right[valid]
        groups = [g for g in np.array_split(np.argsort(confidence, kind="stable"), BINS) if len(g)]
        gaps = [abs(confidence[g].mean() - right[g].mean()) * len(g) for g in groups]
        return float(np.sum(gaps) / valid.sum()) if groups else float("nan")

    @property
    def confidence_correlation(self) -> float:
        """Correlation of confidence and being right over valid answers; NaN where either does not vary."""
        valid = self.answers != INVALID
        confidence, right = self.confidence[valid], self.right[valid].astype(np.float64)
        if not len(right) or not np.ptp(confidence) or not np.ptp(right):
            return float("nan")
        return float(np.corrcoef(confidence, right)[0, 1])

    def _of(self, where: np.ndarray) -> Accuracy:
        right, n = self.right[where], int(where.sum())
        interval = wilson_interval(int(right.sum()), n)
        if self.clusters is not None and n:
            interval = cluster_bootstrap(right, self.clusters[where])
        return Accuracy(float(right.mean()) if n else float("nan"), interval, n)


@dataclass(frozen=True, eq=False)
class Report:
    """All outcomes of a suite.

    Attributes:
        outcomes: One a classifier and scenario.
        class_names: Name of each class.
    """

    outcomes: tuple[Outcome, ...]
    class_names: tuple[str, ...]

    def __getitem__(self, key: tuple[str, str]) -> Outcome:
        """The outcome of a classifier in a scenario, by their names."""
        for outcome in self.outcomes:
            if (outcome.classifier, outcome.scenario) == key:
                return outcome
        names = [(o.classifier, o.scenario) for o in self.outcomes]
        raise ValueError(f"key: expected one of {names}, found {key}.")

    def compare(self, first: str, second: str, scenario: str) -> PairedTest:
        """McNemar's test of two classifiers on the same rows of a scenario.

        Raises:
            ValueError: An unknown name, or a scenario whose rows were chosen by their outcome.
        """
        a, b = self[first, scenario], self[second, scenario]
        if a.conditional:
            raise ValueError(f"scenario: expected rows chosen without a look at the answers, found {scenario!r}.")
        return mcnemar(a.right, b.right)

    def drop(self, classifier: str, scenario: str, clean: str = "clean") -> float:
        """Accuracy in the clean scenario minus accuracy in another."""
        return self[classifier, clean].accuracy.value - self[classifier, scenario].accuracy.value

    def relative_robustness(self, scenario: str, clean: str = "clean") -> dict[str, float]:
        """Accuracy of each classifier under a shift minus what the trend over all classifiers gives at its clean one.

        The trend is the line of least squares; with it, a classifier that is only better everywhere is not more robust.

        Raises:
            ValueError: Fewer than three classifiers, all of one clean accuracy, or rows chosen by their outcome.
        """
        names = list(dict.fromkeys(o.classifier for o in self.outcomes))
        if any(self[name, s].conditional for name in names for s in (scenario, clean)):
            raise ValueError(f"scenario: expected rows chosen without a look at the answers, found {scenario!r}.")
        before = np.array([self[name, clean].accuracy.value for name in names])
        after = np.array([self[name, scenario].accuracy.value for name in names])
        if len(names) < 3 or not np.ptp(before):
            raise ValueError(f"classifiers: expected at least 3 of different clean accuracy, found {before.tolist()}.")
        slope, height = np.polyfit(before, after, 1)
        return dict(zip(names, (after - slope * before - height).tolist(), strict=True))

    def records(self) -> Iterable[dict[str, object]]:
        """One line an answer: classifier, scenario, row, domain, label, answer, confidence."""
        for o in self.outcomes:
            columns = (o.rows, o.domains, o.labels, o.answers, o.confidence)
            for row, domain, label, answer, confidence in zip(*(c.tolist() for c in columns), strict=True):
                yield {
                    "classifier": o.classifier, "scenario": o.scenario, "conditional": o.conditional, "row": row,
                    "domain": domain, "label": self.class_names[label],
                    "answer": None if answer == INVALID else self.class_names[answer],
                    "confidence": None if answer == INVALID else confidence,
                }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every answer as a line of JSON."""
        with replacing(Path(path)) as temporary:
            Path(temporary).write_text("".join(json.dumps(r) + "\n" for r in self.records()), encoding="utf-8")

    def __str__(self) -> str:
        """A table of the outcomes; conditional ones are marked."""
        lines = ["classifier | scenario | accuracy | interval | macro | worst domain | calibration error | invalid"]
        for o in self.outcomes:
            a, (name, worst) = o.accuracy, o.worst_domain
            mark = " (conditional)" if o.conditional else ""
            lines.append(
                f"{o.classifier} | {o.scenario}{mark} | {a.value:.3f} | {a.interval.low:.3f} to {a.interval.high:.3f}"
                f" | {o.macro:.3f} | {name} {worst.value:.3f} | {o.calibration_error:.3f} | {o.invalid_rate:.3f}"
            )
        return "\n".join(lines)
