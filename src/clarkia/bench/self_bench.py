"""Does a model understand what it draws, and what others draw? Every generator judged by every classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clarkia.bench.generators import Draw, drawn_by
from clarkia.bench.matching import MatchingReport, matching
from clarkia.bench.tables import COLOURS as LINES
from clarkia.bench.tables import markdown, panels, rate
from clarkia.datasets.shapes import Judge, level_of
from clarkia.measures.classification import TimestepWeights, fit_timestep_weights
from clarkia.random import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.models.image import ImageModel

PER_CAPTION = 4
LEAST_EXAMPLES = 20
"""Correct pictures from which weights are learned at the least."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """One model's pictures before another model, or before itself.

    Attributes:
        generator: who drew them.
        classifier: who chooses their captions.
        report: how it chose.
        correct: whether the judge found the picture of each row of the report right.
        levels: level of the caption of each row.
        weights: learned on half of the correct rows; None where there were too few.
        learned: right and all rows of the other half, with these weights.
        even: the same without.
        gap: how far these pictures are from the classifier's own, 0 not at all, 1 wholly; NaN where not measured.
    """

    generator: str
    classifier: str
    report: MatchingReport
    correct: Tensor
    levels: tuple[str, ...]
    weights: TimestepWeights | None = None
    learned: tuple[int, int] = (0, 0)
    even: tuple[int, int] = (0, 0)
    gap: float = math.nan

    def hits(self, *, correct: bool = False, level: str | None = None) -> tuple[int, int]:
        """Right rows, and all, of all pictures or of the correct ones, of a level or of all."""
        among = torch.tensor([level is None or own == level for own in self.levels], dtype=torch.bool)
        among = among & self.correct if correct else among
        right = self.report.right().cpu()[among]
        return int(right.sum()), len(right)


@dataclass(frozen=True, eq=False)
class SelfBenchReport:
    """All pairs of a generator and a classifier.

    Attributes:
        pairs: each of them.
        drawn: by generator, pictures that the judge found right, and all.
    """

    pairs: tuple[Pairing, ...]
    drawn: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def pair(self, generator: str, classifier: str) -> Pairing:
        """One of the pairs, by the names of its models."""
        for pair in self.pairs:
            if (pair.generator, pair.classifier) == (generator, classifier):
                return pair
        raise ValueError(f"pair: expected models of this report, found {generator!r} and {classifier!r}.")

    @property
    def correlation(self) -> float:
        """Of the gap between domains with what learned weights gain; NaN of fewer than three pairs."""
        known = [(p.gap, p.learned[0] / p.learned[1] - p.even[0] / p.even[1]) for p in self.pairs if p.learned[1]]
        known = [point for point in known if not math.isnan(point[0])]
        if len(known) < 3 or not all(np.ptp(axis) > 0 for axis in np.array(known).T):
            return math.nan
        return float(np.corrcoef(np.array(known).T)[0, 1])

    def to_markdown(self) -> str:
        """What was drawn right, the pairs, and the levels of the captions."""
        lines = markdown(["model", "drawn right"], [[name, rate(*drawn)] for name, drawn in self.drawn.items()])
        head = ["drawn by", "matched by", "all", "correct", "learned weights, held out", "even weights, there", "gap"]
        rows = [
            [
                *(p.generator, p.classifier, rate(*p.hits()), rate(*p.hits(correct=True))),
                *(rate(*p.learned), rate(*p.even), "–" if math.isnan(p.gap) else f"{p.gap:.2f}"),
            ]
            for p in self.pairs
        ]
        lines += ["", *markdown(head, rows)]
        levels = list(dict.fromkeys(level for p in self.pairs for level in p.levels))
        rows = [
            [p.generator, p.classifier, *(rate(*p.hits(correct=True, level=level)) for level in levels)]
            for p in self.pairs
        ]
        lines += ["", "Correct pictures by what their captions say:", ""]
        lines += markdown(["drawn by", "matched by", *levels], rows)
        if not math.isnan(self.correlation):
            lines += ["", f"Correlation of the gap with what learned weights gain: {self.correlation:+.2f}."]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Accuracy of every pair on all pictures and on the correct ones, and the learned weights."""
        learned = [pair for pair in self.pairs if pair.weights is not None]
        figure, (left, *rest) = panels(2 if learned else 1, 4.2)
        for place, pair in enumerate(self.pairs):
            for offset, correct, colour in ((-0.2, False, LINES[6]), (0.2, True, LINES[0])):
                hits, n = pair.hits(correct=correct)
                left.bar(place + offset, hits / n if n else 0, 0.38, color=colour)
        left.set(ylabel="share matched (grey: all, blue: correct)", ylim=(0, 1.05), xticks=range(len(self.pairs)))
        left.set_xticklabels([f"{p.generator}\nby {p.classifier}" for p in self.pairs], fontsize=6)
        for right in rest:
            for place, pair in enumerate(learned):
                assert pair.weights is not None
                values = pair.weights.values.cpu().numpy()
                label = f"{pair.generator} by {pair.classifier}"
                right.plot(values / values.mean(), color=LINES[place % len(LINES)], linewidth=1, label=label)
            right.set(xlabel="draw, from the least noise to the most", ylabel="weight over its mean")
            right.legend(fontsize=6, frameon=False)
        return figure


def self_bench(
    models: Mapping[str, ImageModel],
    captions: Sequence[str],
    judge: Judge,
    *,
    per_caption: int = PER_CAPTION,
    guidance_scale: float = 2.0,
    num_steps: int | None = None,
    num_draws: int = 30,
    learn: bool = True,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> SelfBenchReport:
    """Let every model draw captions, and every model choose which caption each picture was drawn for.

    The judge says which pictures are right; a model's own score would be circular there.

    Args:
        models: fitted models with captions, by name.
        captions: what is drawn.
        judge: of coloured shapes.
        per_caption: pictures of each caption.
        guidance_scale: of drawing; choosing has none.
        num_steps: of drawing.
        num_draws: noisy copies of each picture.
        learn: whether weights of the levels are learned on half of the correct pictures of each pair.
        seed: fixes everything drawn.
        progress: called with the number of pictures done since it was called last.

    Source: Diffusion Classifiers Understand Compositionality, but Conditions Apply (2025).
    """
    asked = [caption for caption in captions for _ in range(per_caption)]
    drawn, right = {}, {}
    for name, model in models.items():
        draw = drawn_by(model, guidance_scale=guidance_scale, num_steps=num_steps)
        drawn[name] = _in_parts(draw, asked, seed, progress)
        right[name] = judge.satisfies(drawn[name], asked)
    pairs = []
    for source, pictures in drawn.items():
        for name, model in models.items():
            found = matching(model, pictures, asked, num_draws=num_draws, seed=seed, progress=progress)
            levels = tuple(level_of(asked[row]) for row in found.pictures)
            correct = right[source][list(found.pictures)]
            pair = Pairing(source, name, found, correct, levels, gap=domain_gap(drawn[name], pictures, seed))
            pairs.append(_with_weights(pair, seed) if learn else pair)
    return SelfBenchReport(tuple(pairs), {name: (int(hits.sum()), len(hits)) for name, hits in right.items()})


def domain_gap(own: Any, other: Any, seed: int = 0) -> float:
    """How well pictures of two sources are told apart: ``2 AUC - 1`` of a classifier of points, held out; 0 is not.

    Args:
        own: pictures, uint8 ``(n, c, h, w)``.
        other: as many of the other source.
        seed: fixes the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if own is other:
        return 0.0
    points = np.concatenate([_summary(own), _summary(other)])
    side = np.repeat([0, 1], [len(own), len(other)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    telling = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    told = np.asarray(cross_val_predict(telling, points, side, cv=folds, method="predict_proba"))
    return float(max(0.0, 2 * roc_auc_score(side, told[:, 1]) - 1))


def _summary(pictures: Any) -> np.ndarray:
    """Mean, deviation and a histogram of each channel: what a palette and a ground are known by."""
    values = torch.as_tensor(pictures).double() / 255
    flat = values.flatten(2)
    bins = torch.stack([((flat >= k / 8) & (flat < (k + 1) / 8 + (k == 7))).double().mean(2) for k in range(8)], 2)
    return torch.cat([flat.mean(2), flat.std(2), bins.flatten(1)], 1).numpy()


def _with_weights(pair: Pairing, seed: int) -> Pairing:
    """The pair with weights learned on one half of its correct pictures, tried on the other half."""
    of = torch.tensor(pair.report.pictures)
    drawn = of[pair.correct].unique()  # all questions about a picture fall to one half
    halves = drawn[torch.randperm(len(drawn), generator=generator(seed, 1))].tensor_split(2)
    first, second = ((pair.correct & torch.isin(of, half)).nonzero().squeeze(1) for half in halves)
    if len(first) < LEAST_EXAMPLES:
        return pair
    examples = _pairs(pair.report.errors[first])
    weights = fit_timestep_weights(
        examples, torch.zeros(len(examples), dtype=torch.int64), generator=generator(seed, 2), num_steps=1000
    )
    even, learned = (pair.report.right(chosen).cpu()[second] for chosen in (None, weights))
    return Pairing(
        *(pair.generator, pair.classifier, pair.report, pair.correct, pair.levels, weights),
        *((int(learned.sum()), len(learned)), (int(even.sum()), len(even)), pair.gap),
    )


def _pairs(errors: Tensor) -> Tensor:
    """The true caption beside each false one, ``(k, 2, m)``."""
    there = errors.isfinite().all(2)[:, 1:]
    row, place = there.nonzero(as_tuple=True)
    return torch.stack([errors[row, 0], errors[row, 1 + place]], 1)


def _in_parts(draw: Draw, captions: Sequence[str], seed: int, progress: Callable[[int], None] | None) -> Tensor:
    parts = []
    for call, start in enumerate(range(0, len(captions), 64)):
        parts.append(draw(captions[start : start + 64], seed + call))
        if progress is not None:
            progress(len(parts[-1]))
    return torch.cat(parts)
