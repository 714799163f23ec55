"""Settings found by trying: a beam that doubles one knob at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Knob:
    """A setting to be searched: from `start` on, multiplied by `factor` as long as it is at most `most`."""

    start: float
    factor: float = 2.0
    most: float = float("inf")

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.factor > 1 and self.most >= self.start):
            raise ValueError(f"Knob: expected 0 < start <= most and a factor above 1, found {self}.")


TFG_SPACE = MappingProxyType(
    {"rho": Knob(0.25, 2.0, 8.0), "mu": Knob(0.25, 2.0, 8.0), "sigma_bar": Knob(0.001, 10.0, 1.0)}
)
"""The published search of `samplers.TFG`; its counts of iterations and recurrences may be added as knobs from 1 on."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found.

    Attributes:
        settings: The best settings.
        score: Their score.
        tried: All settings that were tried and their scores, in order.
    """

    settings: dict[str, Any]
    score: float
    tried: tuple[tuple[dict[str, Any], float], ...]


def search(
    space: Mapping[str, Knob],
    metric: Callable[[dict[str, Any]], float],
    *,
    beam: int = 2,
    rounds: int = 6,
    guide: Any = None,
    judge: Any = None,
) -> Found:
    """Find good settings by multiplying one at a time: each round the best few grow by every knob, the best few stay.

    It ends when a round finds nothing that gets into the beam. Whole-numbered knobs stay whole.

    Args:
        space: The knobs by name, such as `TFG_SPACE`.
        metric: ``metric(settings) -> score``, higher is better; never asked twice for the same settings.
        beam: How many settings stay.
        rounds: How many rounds at most.
        guide: What steers: a classifier, an energy.
        judge: What the metric asks. Where it is the same object as the guide a warning says so: what is steered into
            a classifier's blind spots looks valid to it.

    Raises:
        ValueError: No knobs, or a beam or a number of rounds below 1.

    Source: TFG: Unified Training-Free Guidance for Diffusion Models (2024).
    """
    if not space or beam < 1 or rounds < 1:
        raise ValueError(f"space, beam, rounds: expected knobs and counts from 1 on, found {space}, {beam}, {rounds}.")
    warn_of_own_judge(guide, judge)
    scores: dict[tuple[float, ...], float] = {}

    def score(values: tuple[float, ...]) -> float:
        if values not in scores:
            scores[values] = float(metric(dict(zip(space, values, strict=True))))
        return scores[values]

    best = [tuple(knob.start for knob in space.values())]
    score(best[0])
    for _ in range(rounds):
        grown = {child for values in best for child in _children(values, space)}
        ranked = sorted(dict.fromkeys([*best, *sorted(grown)]), key=lambda values: -score(values))[:beam]
        if ranked == best:
            break
        best = ranked
    tried = tuple((dict(zip(space, values, strict=True)), value) for values, value in scores.items())
    return Found(dict(zip(space, best[0], strict=True)), scores[best[0]], tried)


def warn_of_own_judge(guide: Any, judge: Any) -> None:
    """Warn where what steers also judges."""
    if guide is not None and guide is judge:
        warnings.warn(
            "guide, judge: the same object steers and judges, which inflates its score; judge with an independent one.",
            UserWarning,
            stacklevel=3,
        )


def _children(values: tuple[float, ...], space: Mapping[str, Knob]) -> list[tuple[float, ...]]:
    children = []
    for place, knob in enumerate(space.values()):
        value = values[place] * knob.factor
        if isinstance(knob.start, int) and value == int(value):
            value = int(value)
        if value <= knob.most * (1 + 1e-9):
            children.append((*values[:place], value, *values[place + 1 :]))
    return children
