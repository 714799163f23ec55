"""How well pictures do what their captions ask: many pairs, judged twice, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from clarkia.datasets.shapes.grammar import Caption, parse
from clarkia.datasets.shapes.judge import LENIENT, STRICT, Judge
from clarkia.datasets.shapes.scenes import Side
from clarkia.datasets.shapes.truth import judge_claims
from clarkia.datasets.shapes.vocabulary import claims

FIGURES = ("right", "count", "shape", "colour", "size", "relation")


@dataclass(frozen=True)
class Rate:
    """A share of n pictures with its Wilson interval.

    Attributes:
        level: level of the captions, "all" for all of them together.
        figure: what was asked: "right" (all of the caption, and nothing else in the picture), "count", or whether the
            shapes, colours, sizes or the relation seen are those named, among captions that name them.
        least_area: threshold of the judge.
        hits: pictures that have it right.
        n: pictures that were asked for it.
        low: lower end of the interval.
        high: upper end.
    """

    level: str
    figure: str
    least_area: float
    hits: int
    n: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Share of the pictures."""
        return self.hits / self.n


def report(
    pictures: Any,
    captions: Sequence[str | Caption],
    *,
    side: Side = 32,
    levels: Sequence[str] | None = None,
    thresholds: Sequence[float] = (STRICT, LENIENT),
    confidence: float = 0.95,
) -> tuple[Rate, ...]:
    """Judge many pictures by their captions.

    Args:
        pictures: uint8, or floating numbers from -1 to 1, ``(n, 3, side, side)``.
        captions: n of them.
        side: side of the pictures in points.
        levels: a name for each pair by which to group them; what the caption says (`level_of`) if not given.
        thresholds: each a `Judge.least_area`.
        confidence: coverage of the intervals.

    Returns:
        The rates, of all pairs first and then by level, of every figure that a caption of the level names.

    Raises:
        DataError: a text is no caption.
        ValueError: no pair, or lists of different lengths.
    """
    groups = np.array([level_of(caption) for caption in captions] if levels is None else list(levels), dtype=object)
    if not len(captions) or not len(pictures) == len(captions) == len(groups):
        raise ValueError(
            f"captions: expected one a picture and at least one, found {len(pictures)} pictures, {len(captions)} "
            f"captions and {len(groups)} levels."
        )
    said, rates = claims(captions), []
    for threshold in thresholds:
        verdicts = judge_claims(Judge(side, threshold)(pictures), said)
        for level in ("all", *dict.fromkeys(groups.tolist())):
            among = (groups == level) | (level == "all")
            for figure in FIGURES:
                asked = among & verdicts.says.get(figure, among)
                if asked.any():
                    hits, n = int(getattr(verdicts, figure)[asked].sum()), int(asked.sum())
                    interval = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
                    rates.append(Rate(level, figure, threshold, hits, n, float(interval.low), float(interval.high)))
    return tuple(rates)


def level_of(caption: str | Caption) -> str:
    """The lowest level whose captions say as much.

    Raises:
        DataError: the text is no caption.
    """
    said = parse(caption) if isinstance(caption, str) else caption
    sized = any(phrase.size for phrase in said.phrases)
    coloured = all(phrase.colour for phrase in said.phrases)
    many = any(phrase.count > 1 for phrase in said.phrases)
    if sized or (said.second and (many or (said.relation and not coloured))):
        return "full"
    if said.second is None:
        return "count" if many and coloured else "full" if many else "colour" if coloured else "single"
    return "relation" if said.relation else "binding" if coloured else "two"
