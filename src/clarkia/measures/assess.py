"""A number with what it needs to be read: its interval, its floor, its p-value, its direction and its features."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarkia.measures.extractors import Extractor, identity
from clarkia.measures.facts import Facts, facts_of, unwrapped
from clarkia.measures.inputs import pair, shuffled, some_rows
from clarkia.measures.intervals import LEVEL, Interval, recentred
from clarkia.measures.two_sample import PRDC, SubsetMean, mmd2, mmd_permutation_test
from clarkia.random import Noise

Measure = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Floor:
    """A measure of real rows against real rows: what no generator should be expected to beat.

    Attributes:
        source: "holdout", or "split" for two halves of the real rows.
        values: One a seed.
        matched: The generated rows in place of the second real set, at the same sizes, one a seed.
        rows: Rows of the two sets.
    """

    source: str
    values: tuple[float, ...]
    matched: tuple[float, ...]
    rows: tuple[int, int]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def ratio(self) -> float | None:
        """Generated against real over real against real, at equal sizes; None where the floor is not positive."""
        return float(np.mean(self.matched)) / self.mean if self.mean > 0 else None


@dataclass(frozen=True)
class Assessment:
    """One number about two sets of rows; `str` prints it in a line, `to_dict` makes it JSON.

    Attributes:
        facts: Name, direction, value at equality and the effect of the sample size.
        features: Name of the extractor.
        fingerprint: The extractor's fingerprint: only numbers with equal ones can be compared.
        rows: Rows of the real and the generated set.
        value: On all rows.
        interval: Over the sampling of the rows; None where it was not asked for.
        floor: Real against real; None where it was not asked for.
        p_value: Of the value under exchangeable labels; None where it was not asked for.
        permutations: Behind the p-value.
    """

    facts: Facts
    features: str
    fingerprint: str
    rows: tuple[int, int]
    value: float
    interval: Interval | None
    floor: Floor | None
    p_value: float | None
    permutations: int

    @property
    def name(self) -> str:
        """The measure's name with the features in brackets."""
        return f"{self.facts.name}[{self.features}]"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts; numbers that are not finite become None."""
        whole = {"name": self.name, **dataclasses.asdict(self)}
        if self.floor is not None:
            whole["floor"] |= {"mean": self.floor.mean, "ratio": self.floor.ratio}
        return _plain(whole)

    def reading(self) -> str:
        """One sentence on what the number means."""
        if self.floor is None:
            ideal = self.facts.at_equality
            return "No floor was measured." if ideal is None else f"Equal laws have {ideal:g}; no floor was measured."
        low, high = min(self.floor.values), max(self.floor.values)
        matched = float(np.mean(self.floor.matched))
        if low <= matched <= high:
            return "Within the range of real against real: it does not tell the sets apart."
        if (matched < low) == (self.facts.better == "lower"):
            better = self.facts.better != "near"
            note = "copied rows or a collapsed spread can do that" if better else "off its value for real rows"
            return f"Beyond real against real on the good side: {note}." if better else f"{note.capitalize()}."
        ratio = self.floor.ratio
        if self.facts.better == "lower" and ratio is not None:
            return f"{ratio:.3g} times real against real at equal sizes."
        return f"{matched:.3g} where real against real has {self.floor.mean:.3g}."

    def __str__(self) -> str:
        """Value, interval, floor, p-value and direction in one line."""
        parts = [f"{self.name} {self.value:.4g}"]
        if self.interval is not None:
            parts.append(f"({self.interval.low:.4g} to {self.interval.high:.4g})")
        if self.floor is not None:
            a, b = self.floor.rows
            parts.append(f"real against real {self.floor.mean:.4g} ({self.floor.source}, {a} and {b} rows)")
        if self.p_value is not None:
            parts.append(f"p = {self.p_value:.3g}")
        side = f"near {self.facts.at_equality:g}" if self.facts.better == "near" else self.facts.better
        return ", ".join([*parts, f"{side} is better"]).replace(", (", " (", 1)


def assess(
    measure: Measure,
    x: Any,
    y: Any,
    *,
    holdout: Any = None,
    extractor: Extractor = identity,
    facts: Facts | None = None,
    seeds: int = 5,
    draws: int = 50,
    permutations: int = 100,
    level: float = LEVEL,
    generator: Noise = None,
) -> Assessment:
    """A two-sample measure that returns one number, with interval, floor and p-value; see `assess_each`.

    Raises:
        ValueError: As `assess_each`, or a measure of several numbers.
    """
    found = assess_each(
        measure, x, y, holdout=holdout, extractor=extractor, facts=None if facts is None else (facts,), seeds=seeds,
        draws=draws, permutations=permutations, level=level, generator=generator,
    )  # fmt: skip
    if len(found) != 1:
        raise ValueError(f"measure: expected one number, found {', '.join(found)}; use assess_each.")
    return next(iter(found.values()))


@torch.no_grad()
def assess_each(
    measure: Measure,
    x: Any,
    y: Any,
    *,
    holdout: Any = None,
    extractor: Extractor = identity,
    facts: tuple[Facts, ...] | None = None,
    seeds: int = 5,
    draws: int = 50,
    permutations: int = 100,
    level: float = LEVEL,
    generator: Noise = None,
) -> dict[str, Assessment]:
    """Every number of a two-sample measure, with interval, floor and p-value.

    The interval comes from random halves of both sets without repeats: their spread is that of the whole sets, and no
    duplicated row upsets neighbours or kernels. The floor puts held-out rows (or one half of x against the other) in
    place of y, at sizes that y is then measured at too. The p-value shuffles the labels of the pooled rows: one-sided
    for measures where lower is better, else two-sided.

    Args:
        measure: ``(x, y) -> number``, a tensor of one number, `PRDC` or `SubsetMean`; options go through
            `functools.partial`.
        x: Real rows, or whatever the extractor takes, n of them.
        y: Generated rows, m of them.
        holdout: Real rows that the generator has not seen; without them x is split.
        extractor: Makes features of all sets.
        facts: Of the measure's numbers, for measures that `facts_of` does not know.
        seeds: Repeats of the floor; 0 leaves it out.
        draws: Halves behind the interval; 0 leaves it out.
        permutations: Behind the p-value; 0 leaves it out. Each costs one call, except for the unbiased `mmd2`.
        level: Coverage of the interval.
        generator: Source of all choices.

    Returns:
        Assessments by name.

    Raises:
        ValueError: Different widths, values that are not finite, unknown facts, negative counts, or too few rows.

    Source: The choice to trust a number only beside its floor follows Reliable Fidelity and Diversity Metrics for
    Generative Models (2020); permutation tests, A Kernel Two-Sample Test (2012).
    """
    facts = facts_of(measure) if facts is None else facts
    if min(seeds, draws, permutations) < 0:
        raise ValueError(f"seeds: expected counts >= 0, found {seeds}, draws {draws}, permutations {permutations}.")
    x, y = pair(extractor(x), extractor(y))
    kept = None if holdout is None else pair(x, extractor(holdout), ("x", "holdout"))[1]
    value = _values(measure(x, y))
    if len(value) != len(facts):
        raise ValueError(f"facts: expected one for each of {len(value)} numbers, found {len(facts)}.")
    spread = _attempt(_half_draws, measure, x, y, draws, generator, option="draws") if draws else None
    floor = _attempt(_floor, measure, x, y, kept, seeds, generator, option="seeds") if seeds else None
    p_values = _p_values(measure, x, y, value, facts, permutations, generator) if permutations else None
    found = {}
    for index, fact in enumerate(facts):
        found[fact.name] = Assessment(
            facts=fact,
            features=extractor.name,
            fingerprint=extractor.fingerprint,
            rows=(len(x), len(y)),
            value=float(value[index]),
            interval=None
            if spread is None
            else recentred(float(value[index]), spread[:, index], level).clip(*fact.bounds),
            floor=None if floor is None else _column(floor, index),
            p_value=None if p_values is None else float(p_values[index]),
            permutations=permutations,
        )
    return found


def _values(result: Any) -> np.ndarray:
    """The numbers of a measure's result, ``(numbers,)``."""
    if isinstance(result, PRDC):
        return np.array([result.precision, result.recall, result.density, result.coverage])
    if isinstance(result, SubsetMean):
        return np.array([result.value])
    if isinstance(result, tuple):  # a number and where it was found
        result = result[0]
    return np.array([float(result)])


def _attempt(function: Callable[..., Any], *arguments: Any, option: str) -> Any:
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"x: too few rows for random halves ({error}) Pass {option}=0 to leave them out.") from error


def _half_draws(measure: Measure, x: Tensor, y: Tensor, draws: int, generator: Noise) -> np.ndarray:
    """The measure on random halves without repeats, ``(draws, numbers)``.

    The mean of half of n numbers varies about that of all of them with variance ``s^2 (2/n - 1/n)``: that of all n.
    """
    halves = [(len(x) + 1) // 2, (len(y) + 1) // 2]
    return np.stack(
        [_values(measure(some_rows(x, halves[0], generator), some_rows(y, halves[1], generator))) for _ in range(draws)]
    )


def _floor(
    measure: Measure, x: Tensor, y: Tensor, holdout: Tensor | None, seeds: int, generator: Noise
) -> tuple[str, np.ndarray, np.ndarray, tuple[int, int]]:
    """Floor and matched values, each ``(seeds, numbers)``."""
    values, matched = [], []
    first, rows = x, (len(x), 0)
    for _ in range(seeds):
        if holdout is None:
            order = shuffled(len(x), generator, x.device)
            first, other = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
        else:
            other = holdout
        size = min(len(other), len(y))
        rows = (len(first), size)
        values.append(_values(measure(first, some_rows(other, size, generator))))
        matched.append(_values(measure(first, some_rows(y, size, generator))))
    return "split" if holdout is None else "holdout", np.stack(values), np.stack(matched), rows


def _column(floor: tuple[str, np.ndarray, np.ndarray, tuple[int, int]], index: int) -> Floor:
    source, values, matched, rows = floor
    return Floor(source, tuple(map(float, values[:, index])), tuple(map(float, matched[:, index])), rows)


def _p_values(
    measure: Measure,
    x: Tensor,
    y: Tensor,
    value: np.ndarray,
    facts: tuple[Facts, ...],
    permutations: int,
    generator: Noise,
) -> np.ndarray:
    options = getattr(measure, "keywords", {})
    if unwrapped(measure) is mmd2 and options.get("unbiased", True):
        kernel = options.get("kernel")
        return np.array(
            [mmd_permutation_test(x, y, kernel=kernel, permutations=permutations, generator=generator).p_value]
        )
    pooled, n = torch.cat([x, y]), len(x)
    orders = (shuffled(len(pooled), generator, x.device) for _ in range(permutations))
    null = np.stack([_values(measure(pooled[order[:n]], pooled[order[n:]])) for order in orders])
    lower = np.array([fact.better == "lower" for fact in facts])
    middle = np.median(null, axis=0)
    extreme, null_extreme = (np.where(lower, v, np.abs(v - middle)) for v in (value, null))
    rounding = 1e-12 * np.abs(null).max(0)
    return (1 + (null_extreme >= extreme - rounding).sum(0)) / (1 + permutations)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
