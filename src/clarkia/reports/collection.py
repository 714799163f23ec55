"""The report on two collections of arrays, pictures or texts: a thin layer on `measures.compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from clarkia.adapters.collections import Collection
from clarkia.errors import DataError
from clarkia.measures.assess import Assessment
from clarkia.measures.collections import character_ngrams, pixels, standardised
from clarkia.measures.comparison import STEPS, Comparison, compare
from clarkia.measures.extractors import Extractor, flatten
from clarkia.measures.memorisation import Memorisation, Rate
from clarkia.reports.metric import Metric, metric
from clarkia.reports.progress import progress_of
from clarkia.reports.report import Report
from clarkia.reports.shadows import Shadow, shadows
from clarkia.reports.summary import Finding

GROUPS = ("distance", "support", "classifier", "memorisation")
NOUNS = {"array": "array", "images": "image", "texts": "text"}
_SUPPORT = ("precision", "recall", "density", "coverage", "Vendi ratio")


@dataclass(frozen=True, eq=False)
class CollectionReport(Report):
    """How a generated collection compares with a real one.

    Attributes:
        kind: "array", "images" or "texts".
        features: Name of the features that everything was computed on.
        fingerprint: Tells features apart; only figures with equal ones compare.
        metrics: All figures, by group: "distance", "support", "classifier", "memorisation".
        findings: What the figures say, in words, the headline first.
        shadows: The sets seen along their principal axes.
        rows: Numbers of rows given, by set.
        rows_used: Numbers of rows in use, by set.
        seed: Seed of everything random.
    """

    kind: str
    features: str
    fingerprint: str
    metrics: tuple[Metric, ...]
    findings: tuple[Finding, ...]
    shadows: tuple[Shadow, ...]
    rows: Mapping[str, int]
    rows_used: Mapping[str, int]
    seed: int

    @property
    def title(self) -> str:
        """What the report is on."""
        return f"{NOUNS[self.kind].capitalize()} report, features {self.features}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the plots as plain values."""
        return {
            "kind": self.kind,
            "features": self.features,
            "fingerprint": self.fingerprint,
            "findings": [finding.to_dict() for finding in self.findings],
            "metrics": [found.to_dict() for found in self.metrics],
            "rows": dict(self.rows),
            "rows_used": dict(self.rows_used),
            "seed": self.seed,
        }

    def page(self) -> str:
        """Return the report as one self-contained HTML page."""
        from clarkia.reports.html import render_collection

        return render_collection(self)


def collection_report(
    real: Collection,
    generated: Collection,
    *,
    holdout: Collection | None = None,
    extractor: Extractor | None = None,
    max_rows: int = 2000,
    raw: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> CollectionReport:
    """Compare two collections of one kind.

    Args:
        real: What the generator was trained on; see `adapters.collections.read_collection`.
        generated: What to judge.
        holdout: Real rows that the generator did not see.
        extractor: Makes the features; by default standardised columns, the points of small pictures, or pieces of
            words.
        max_rows: Most rows of a set in use.
        raw: Take an array's columns as they are.
        seed: Fixes everything random.
        progress: Show a progress bar on standard error.

    Raises:
        DataError: Collections of different kinds or widths, or with fewer than 30 rows.
    """
    for word, other in (("generated", generated), ("holdout", holdout)):
        if other is not None and other.kind != real.kind:
            raise DataError(
                f"the real collection holds {real.kind}, the {word} one {other.kind}; compare like with like"
            )
    extractor = _features(real, raw) if extractor is None else extractor
    with progress_of(progress, STEPS) as step:
        try:
            found = compare(
                real.rows, generated.rows, holdout=None if holdout is None else holdout.rows, extractor=extractor,
                max_rows=max_rows, generator=torch.Generator().manual_seed(seed), step=step,
            )  # fmt: skip
        except ValueError as error:
            raise DataError(str(error)) from error
    metrics = _metrics(found)
    used = {"real": found.real, "generated": found.generated, "holdout": found.holdout}
    return CollectionReport(
        kind=real.kind,
        features=found.features,
        fingerprint=found.fingerprint,
        metrics=metrics,
        findings=_findings(found, metrics),
        shadows=shadows(found.real, found.generated),
        rows=found.rows,
        rows_used={name: len(rows) for name, rows in used.items() if rows is not None},
        seed=seed,
    )


def _features(real: Collection, raw: bool) -> Extractor:
    if real.kind == "texts":
        return character_ngrams()
    if real.kind == "images":
        return pixels(real.rows.shape[1])
    return flatten if raw else standardised(real.rows)


def _metrics(found: Comparison) -> tuple[Metric, ...]:
    sizes = len(found.real), len(found.generated)
    numbers = [_assessed(one) for one in found.assessments.values()]
    test = found.test
    classifier = metric(
        "Two-sample AUC, boosting", "classifier", test.auc, interval=test.interval, floor=0.5, rows=test.rows,
        note="Of a classifier that tells generated from real rows, on rows it has not seen; 0.5 is a coin toss.",
    )  # fmt: skip
    copies = [] if found.memorisation is None else _copies(found.memorisation, sizes)
    return (*numbers, classifier, *copies)


def _assessed(found: Assessment) -> Metric:
    name = found.facts.name
    note = found.reading()
    if found.p_value is not None:
        note += f" A permutation test gives p = {found.p_value:.3g}."
    return metric(
        name[0].upper() + name[1:],
        "support" if name in _SUPPORT else "distance",
        found.value,
        better=found.facts.better,
        interval=found.interval,
        floor=None if found.floor is None else found.floor.mean,
        rows=found.rows,
        note=note,
    )


def _copies(found: Memorisation, sizes: tuple[int, int]) -> list[Metric]:
    def line(name: str, rate: Rate, note: str, better: str = "lower") -> Metric:
        return metric(
            name,
            "memorisation",
            rate.value,
            better=better,
            interval=rate.interval,
            floor=rate.null,
            rows=sizes,
            note=note,
        )

    test = found.copy_test
    return [
        line("Exact copies", found.exact, "Share of generated rows that equal a real one."),
        line("Nearer to training than to holdout", found.closer, "Half where nothing is copied, 1 where all is."),
        line("Close copies", found.copied, "Share nearer than a third of the distance to the second nearest real row."),
        line("Authenticity", found.authentic, "Share farther from the nearest real row than its own is.", "higher"),
        metric(
            "Copy test", "memorisation", test.statistic, better="near", floor=0.0, rows=sizes,
            note=f"Ranks of nearest distances: far below 0 copies, far above underfits; p = {test.p_value:.3g}.",
        ),
    ]  # fmt: skip


def _findings(found: Comparison, metrics: tuple[Metric, ...]) -> tuple[Finding, ...]:
    test = found.test
    apart = test.interval.low > 0.5
    tone = "good" if test.auc < 0.6 else "fair" if test.auc < 0.8 else "bad"
    title = {
        "good": "Close, but not the same" if apart else "Cannot be told apart",
        "fair": "Close, but recognisable",
        "bad": "Easy to tell apart",
    }[tone]
    headline = Finding(
        "headline", tone, title,
        f"A boosted classifier tells generated from real rows with an AUC of {test.auc:.3f} on {test.rows[0]:,} of "
        "each, where 0.5 is a coin toss.",
    )  # fmt: skip
    kernel = found.assessments["MMD^2"]
    shares = {name: found.assessments[name] for name in ("precision", "recall", "density", "coverage")}
    lines = [headline]
    if kernel.p_value is not None:
        same = kernel.p_value > 0.05
        text = (
            f"The kernel test {'finds no difference' if same else 'tells the sets apart'} (p = {kernel.p_value:.3g}). "
        )
        lines.append(
            Finding("distance", "good" if same else "fair", "Distance", text + found.assessments["FD"].reading())
        )
    words = [f"{name} {one.value:.2f}" + _against(one) for name, one in shares.items()]
    low = [name for name, one in shares.items() if one.floor is not None and one.value < 0.9 * one.floor.mean]
    text = f"{', '.join(words).capitalize()}."
    if "recall" in low or "coverage" in low:
        text += " Parts of the real set are not reached."
    lines.append(Finding("support", "fair" if low else "good", "Support and diversity", text))
    if found.memorisation is None:
        text = (
            "Whether anything was copied cannot be said without real rows that the generator did not see (a holdout)."
        )
        return (*lines, Finding("memorisation", "info", "Copies", text))
    copies = found.memorisation
    traced = (
        copies.closer.interval.low > 0.5
        or copies.exact.interval.low > copies.exact.null
        or copies.copy_test.p_value < 0.01
    )
    text = (
        f"{copies.closer.value:.1%} of the generated rows are nearer to training than to held-out rows "
        f"(50 % where nothing is copied); {copies.exact.value:.1%} equal a training row."
    )
    return (*lines, Finding("memorisation", "bad" if traced else "good", "Copies", text))


def _against(found: Assessment) -> str:
    return "" if found.floor is None else f" (real {found.floor.mean:.2f})"
