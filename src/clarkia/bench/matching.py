"""Which caption fits a picture? A model asked about what it can draw, with captions that differ in one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from clarkia.bench.tables import COLOURS as LINES
from clarkia.bench.tables import markdown, panels, percent, rate
from clarkia.codecs.descriptions import CAPTION
from clarkia.datasets.shapes import negatives
from clarkia.datasets.shapes.grammar import KINDS
from clarkia.measures.classification import TimestepWeights, diffusion_classifier
from clarkia.measures.classification.trials import Distance, Weight
from clarkia.measures.shift import wilson_interval
from clarkia.models.classify import answers_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.models.image import ImageModel

PUBLISHED_DRAWS = 30
"""Levels of noise, evenly spaced in time, one noise each."""


@dataclass(frozen=True, eq=False)
class MatchingReport:
    """Errors of a model on pictures, each with its own caption first and false ones after it.

    Attributes:
        kinds: What the false captions of each row differ in.
        pictures: Number of each row's picture among those given.
        errors: float64 ``(n, c, m)`` of the captions at each level; infinite where a row has fewer captions.
    """

    kinds: tuple[str, ...]
    pictures: tuple[int, ...]
    errors: Float64[Tensor, "n c m"]

    def right(self, weights: TimestepWeights | None = None) -> Bool[Tensor, " n"]:
        """Whether the true caption has the least error of all; a tie is wrong.

        Args:
            weights: Learned weights of the levels; None weighs them as they were measured.
        """
        there = self.errors.isfinite().all(2)
        values = torch.where(there.unsqueeze(2), self.errors, 0.0)
        cost = values.mean(2) if weights is None else (values * weights.values.to(values.device)).mean(2)
        cost = torch.where(there, cost, torch.inf)
        return cost[:, 0] < cost[:, 1:].amin(1)

    def hits(self, kind: str | None = None, weights: TimestepWeights | None = None) -> tuple[int, int]:
        """Right rows, and all, of one kind or of all."""
        among = torch.tensor([kind is None or own == kind for own in self.kinds], dtype=torch.bool)
        right = self.right(weights).cpu()[among]
        return int(right.sum()), len(right)

    @property
    def accuracy(self) -> float:
        """Share of the rows that are right."""
        hits, n = self.hits()
        return hits / n

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the captions of each row."""
        return float((1 / self.errors.isfinite().all(2).double().sum(1)).mean())

    def chance_of(self, kind: str) -> float:
        """The same of one kind."""
        among = torch.tensor([own == kind for own in self.kinds])
        return float((1 / self.errors.isfinite().all(2).double().sum(1)).cpu()[among].mean())

    def to_markdown(self) -> str:
        """A line a kind of difference."""
        kinds = dict.fromkeys(self.kinds)
        rows = [[kind, rate(*self.hits(kind)), percent(self.chance_of(kind)), self.hits(kind)[1]] for kind in kinds]
        rows.append(["all", rate(*self.hits()), percent(self.chance), self.hits()[1]])
        lines = markdown(["false captions differ in", "accuracy", "chance", "pictures"], rows)
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Accuracy by kind with intervals, and the gap between false and true captions by level of noise."""
        figure, (left, right) = panels(2)
        kinds = list(dict.fromkeys(self.kinds))
        for place, kind in enumerate(kinds):
            hits, n = self.hits(kind)
            interval = wilson_interval(hits, n)
            ends = [[hits / n - interval.low], [interval.high - hits / n]]
            left.bar(place, hits / n, 0.6, yerr=ends, color=LINES[0], ecolor="#495057", alpha=0.8)
            left.plot([place - 0.4, place + 0.4], [self.chance_of(kind)] * 2, ":", color="#495057", linewidth=1)
            among = torch.tensor([own == kind for own in self.kinds])
            false = torch.where(self.errors[among, 1:].isfinite(), self.errors[among, 1:], torch.nan)
            gap = (false.nanmean(1) - self.errors[among, 0]).mean(0).cpu().numpy()
            right.plot(gap, color=LINES[place % len(LINES)], linewidth=1, label=kind)
        left.set(ylabel="share matched", ylim=(0, 1.05), xticks=range(len(kinds)))
        left.set_xticklabels(kinds, fontsize=7)
        right.axhline(0, color="#adb5bd", linewidth=1)
        right.set(xlabel="draw, from the least noise to the most", ylabel="error of false less true captions")
        right.legend(fontsize=6, frameon=False)
        return figure


def matching(
    model: ImageModel,
    pictures: Any,
    captions: Sequence[str],
    *,
    kinds: Sequence[str] = KINDS,
    num_draws: int = PUBLISHED_DRAWS,
    weight: Weight = "uniform_t",
    distance: Distance = "norm",
    antithetic: bool = False,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MatchingReport:
    """Let a model choose between the true caption of a picture and captions that are false in one thing.

    Args:
        model: a fitted model with captions.
        pictures: n of them, as of `fit`.
        captions: what is true of each, in the grammar of coloured shapes.
        kinds: what false captions differ in; a picture counts once for each that its caption says something of.
        num_draws: noisy copies of each picture, the same for all its captions.
        weight: of the levels of noise, see `clarkia.measures.diffusion_classifier`; published are even times.
        distance: how errors count; published is the norm, not its square.
        antithetic: whether noise is drawn in pairs of opposite sign.
        seed: fixes the draws.
        progress: called with the number of pictures done since it was called last.

    Raises:
        DataError: a caption that is none, or with a word that the model does not know.
        ValueError: no picture has a caption with anything to get wrong.

    Source: Diffusion Classifiers Understand Compositionality, but Conditions Apply (2025).
    """
    levels = model.codec_.encode(pictures)
    if len(levels) != len(captions):
        raise ValueError(f"captions: expected {len(levels)}, one a picture, found {len(captions)}.")
    asked = _questions(captions, kinds, set(model.descriptions_.words))
    if not asked:
        raise ValueError(f"captions: expected some that say something of {', '.join(kinds)}, found none.")
    classify = partial(
        diffusion_classifier, num_draws=num_draws, weight=weight, distance=distance, antithetic=antithetic
    )
    most = max(len(candidates) for *_, candidates in asked)
    errors = torch.full((len(asked), most, num_draws), torch.inf, dtype=torch.float64)
    sizes: dict[int, list[int]] = {}
    for row, (*_, candidates) in enumerate(asked):
        sizes.setdefault(len(candidates), []).append(row)
    for size, rows in sizes.items():  # rows with the same number of captions share their calls
        condition = model.descriptions_.given(
            {CAPTION: [text for row in rows for text in asked[row][2]]}, size * len(rows)
        )
        assert condition is not None
        own, done = levels[[asked[row][0] for row in rows]], 0
        for answer in answers_on(model, own, condition, classify, seed=seed, per_row=size):
            part = rows[done : done + len(answer.errors)]
            errors[part, :size] = answer.errors.cpu()
            done += len(part)
            if progress is not None:
                progress(len(part))
    return MatchingReport(tuple(kind for _, kind, _ in asked), tuple(number for number, _, _ in asked), errors)


def _questions(captions: Sequence[str], kinds: Sequence[str], known: set[str]) -> list[tuple[int, str, list[str]]]:
    """Number of the picture, kind, and the captions with the true one first, for all that can be asked."""
    found = []
    for number, caption in enumerate(captions):
        for kind in kinds:
            false = [text for text in negatives(caption, kind) if known.issuperset(text.split())]
            if false:
                found.append((number, kind, [caption, *false]))
    return found
