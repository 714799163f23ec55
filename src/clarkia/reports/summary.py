"""What the figures of a report say, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clarkia.reports.metric import Metric
from clarkia.reports.profiles import ColumnProfile, PairProfile


@dataclass(frozen=True)
class Finding:
    """One statement of the summary.

    Attributes:
        group: Group of metrics it is about, "headline" for the first.
        tone: "good", "fair", "bad" or "info".
        title: A few words.
        text: One to three sentences.
    """

    group: str
    tone: str
    title: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """Return the statement as plain values."""
        return dict(vars(self))


def group_skill(metrics: Sequence[Metric], group: str) -> float | None:
    """Mean skill of a group's metrics, each cut to [0, 1]; None where no metric of the group has one."""
    skills = [float(np.clip(m.skill, 0, 1)) for m in metrics if m.group == group and m.skill is not None]
    return float(np.mean(skills)) if skills else None


def _tone(skill: float | None) -> str:
    if skill is None:
        return "info"
    return "good" if skill >= 0.9 else "fair" if skill >= 0.6 else "bad"


def _find(metrics: Sequence[Metric], name: str) -> Metric | None:
    return next((m for m in metrics if m.name == name and m.value is not None), None)


def _stands_out(distance: float, floor: float) -> bool:
    """Whether a distance is too far above its mean under sampling noise to be the largest of many such draws."""
    return distance > 3.5 * floor and distance > 0.005


def _headline(metrics: Sequence[Metric]) -> list[Finding]:
    auc = _find(metrics, "Two-sample AUC, boosting")
    if auc is None or auc.value is None or auc.rows is None or auc.interval is None:
        return []
    tone = "good" if auc.value < 0.6 else "fair" if auc.value < 0.8 else "bad"
    title = {
        "good": "Hard to tell from real rows" if auc.value > 0.52 else "Cannot be told from real rows",
        "fair": "Close, but recognisable",
        "bad": "Easy to tell from real rows",
    }[tone]
    repeats = auc.interval[1] < 0.45
    if repeats:
        tone, title = "bad", "Synthetic rows repeat real ones"
    elif _traces(metrics):
        title += "; training rows leave a trace"
    text = (
        f"A boosted classifier tells synthetic from real rows with an AUC of {auc.value:.3f} on "
        f"{auc.rows[0]:,} real and {auc.rows[1]:,} synthetic rows, where 0.5 is a coin toss"
    )
    text += f" and columns without any dependence give {auc.ceiling:.3f}." if auc.ceiling is not None else "."
    if repeats:
        text += " Less than one half means that rows it learned as real come back as synthetic."
    return [Finding("headline", tone, title, text)]


def _columns(metrics: Sequence[Metric], columns: Sequence[ColumnProfile]) -> list[Finding]:
    if not columns:
        return []
    mean = np.mean([c.distance for c in columns])
    floor = np.mean([c.floor for c in columns])
    worst = max(columns, key=lambda c: c.distance - c.floor)
    skill = group_skill(metrics, "marginals")
    text = (
        f"On average a column's distribution is off by {mean:.1%}; two fresh real samples of these sizes differ by "
        f"{floor:.1%}. "
    )
    if _stands_out(worst.distance, worst.floor):
        text += f"The farthest is '{worst.name}' with {worst.distance:.1%}."
    else:
        text += "No column stands out."
    tone = _tone(skill) if skill is not None else ("good" if mean < 0.03 else "fair" if mean < 0.1 else "bad")
    return [Finding("marginals", tone, "Single columns", text)]


def _pairs(metrics: Sequence[Metric], pairs: PairProfile) -> list[Finding]:
    if len(pairs.names) < 2:
        return []
    metric = _find(metrics, "Joint total variation") or _find(metrics, "Trend error, shared edges")
    if metric is None or metric.value is None:
        return []
    text = f"The joint table of two columns is off by {metric.value:.1%} on average"
    text += f"; fresh real samples: {metric.floor:.1%}" if metric.floor is not None else ""
    text += f"; unrelated columns: {metric.ceiling:.1%}. " if metric.ceiling is not None else ". "
    first, second, distance, floor = pairs.worst(1)[0]
    if _stands_out(distance, floor):
        text += f"The farthest pair is '{first}' with '{second}', {distance:.1%}."
    return [Finding("pairs", _tone(metric.skill), "Dependence between columns", text.strip())]


def _rows(metrics: Sequence[Metric]) -> list[Finding]:
    precision, recall = _find(metrics, "Alpha-precision"), _find(metrics, "Beta-recall")
    if precision is None or recall is None or recall.floor is None:
        return []
    skill = group_skill(metrics, "joint")
    text = (
        f"Synthetic rows lie among the real ones with a precision of {precision.value:.3f} and reach them with a "
        f"recall of {recall.value:.3f}"
    )
    text += f"; fresh rows have {precision.floor:.3f} and {recall.floor:.3f}."
    return [Finding("joint", _tone(skill), "Whole rows", text)]


def _utility(metrics: Sequence[Metric], target: str | None) -> list[Finding]:
    if target is None:
        return [
            Finding("utility", "info", "Utility", "No target was given, so no predictive model was trained and tested.")
        ]
    names = ("AUC, boosting", "R2, boosting", "Utility AUC", "Utility RMSE of the log target")
    metric = next((m for m in (_find(metrics, name) for name in names) if m), None)
    if metric is None or metric.value is None or metric.floor is None:
        return []
    label = metric.name.split(",")[0].removeprefix("Utility ")
    text = (
        f"A model trained on synthetic rows predicts '{target}' of real rows with {label} {metric.value:.3f}; "
        f"trained on real rows it reaches {metric.floor:.3f}."
    )
    return [Finding("utility", _tone(group_skill(metrics, "utility")), "Utility for prediction", text)]


def _validity(metrics: Sequence[Metric]) -> list[Finding]:
    checks = [m for m in metrics if m.group == "validity"]
    if not checks:
        return []
    broken = [m for m in checks if m.value is not None and (m.value < 1 if m.better == "higher" else beyond_floor(m))]
    if not broken:
        text = "Types, ranges and categories of the synthetic rows are those of the real table."
        return [Finding("validity", "good", "Validity", text)]
    parts = ", ".join(f"{m.name[0].lower()}{m.name[1:]} {m.value:.1%}" for m in broken[:4])
    return [Finding("validity", "fair", "Validity", f"Beyond what real rows show: {parts}.")]


def beyond_floor(m: Metric) -> bool:
    """Whether a figure is clearly worse than its floor: by 1.5 half-widths of its interval, three standard errors.

    Several figures are looked at, and 95 % intervals would raise a false alarm for one fresh table in six.
    """
    if m.interval is None or m.floor is None or m.value is None:
        return False
    if m.better == "lower":
        return m.value - 1.5 * (m.value - m.interval[0]) > m.floor
    return m.value + 1.5 * (m.interval[1] - m.value) < m.floor


def _traces(metrics: Sequence[Metric]) -> list[str]:
    """Privacy figures clearly on the bad side of what fresh rows score."""
    return [
        f"{m.name[0].lower()}{m.name[1:]} {m.value:.3f} instead of {m.floor:.3f}"
        for m in metrics
        if m.group == "privacy" and beyond_floor(m)
    ]


def _privacy(metrics: Sequence[Metric], holdout: bool) -> list[Finding]:
    if not any(m.group == "privacy" for m in metrics):
        text = "Without a holdout nothing can be said about privacy under this protocol."
        return [Finding("privacy", "info", "Privacy", text)]
    traces = _traces(metrics)
    if traces:
        text = f"Training rows leave a trace: {'; '.join(traces[:3])}. Look before you share this table."
        return [Finding("privacy", "bad", "Privacy", text)]
    if not holdout:
        text = (
            "No more exact copies than chance makes. Membership and nearest records could not be checked: give a "
            "holdout of real rows that the generator did not see."
        )
        return [Finding("privacy", "info", "Privacy", text)]
    if _find(metrics, "Membership attack AUC") is None:
        text = (
            "Synthetic rows are no closer to training than to unseen rows. That alone proves little: protocol "
            "clarkia-1 looks for copies and attacks membership."
        )
        return [Finding("privacy", "info", "Privacy", text)]
    text = (
        "No trace of single training rows: copies, nearest records and the membership attack are where fresh rows "
        "would be. This is evidence, not a guarantee."
    )
    return [Finding("privacy", "good", "Privacy", text)]


def summarise(
    metrics: Sequence[Metric],
    columns: Sequence[ColumnProfile],
    pairs: PairProfile,
    *,
    target: str | None,
    holdout: bool,
) -> tuple[Finding, ...]:
    """Put a report's figures into words, the headline first.

    Args:
        metrics: The figures.
        columns: The compared columns.
        pairs: The compared pairs.
        target: Name of the predicted column, or None.
        holdout: Whether a holdout was given.
    """
    return (
        *_headline(metrics),
        *_columns(metrics, columns),
        *_pairs(metrics, pairs),
        *_rows(metrics),
        *_utility(metrics, target),
        *_validity(metrics),
        *_privacy(metrics, holdout),
    )
