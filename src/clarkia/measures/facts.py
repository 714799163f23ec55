"""What a reader must know of a measure before its value says anything: direction, value at equality, sample size."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from clarkia.measures import two_sample


@dataclass(frozen=True)
class Facts:
    """One number of a measure.

    Attributes:
        name: As reports print it, the features' name in brackets behind it.
        better: "lower" or "higher", or "near" where both sides of the value at equality are worse.
        at_equality: Value for equal laws and endless samples; None where there is no such value.
        sample_size: How the number of rows moves the value.
        bounds: Values that the number can take.
    """

    name: str
    better: Literal["lower", "higher", "near"]
    at_equality: float | None = None
    sample_size: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher", "near"):
            raise ValueError(f"better: expected 'lower', 'higher' or 'near', found {self.better!r}.")


SHARE = (0.0, 1.0)
UNBIASED = "unbiased: negative about half the time for equal laws; values of different sample sizes compare"
UPWARD = "biased upwards by about 1/n + 1/m; compare values of equal sample sizes only"

_TABLE: dict[Callable[..., Any], tuple[Facts, ...]] = {
    two_sample.frechet_distance: (
        Facts("FD", "lower", 0.0, "biased upwards by about (1/n + 1/m)(d + d(d + 1)/4) in units of the mean variance"),
    ),
    two_sample.mmd2: (Facts("MMD^2", "lower", 0.0, UNBIASED),),
    two_sample.kid: (Facts("KID", "lower", 0.0, UNBIASED),),
    two_sample.cmmd: (Facts("CMMD (x1000)", "lower", 0.0, UPWARD),),
    two_sample.energy_distance: (Facts("energy distance", "lower", 0.0, UPWARD),),
    two_sample.characteristic_distance: (
        Facts("characteristic distance", "lower", 0.0, "its square is biased upwards by about 1/n + 1/m"),
    ),
    two_sample.cauchy_schwarz: (
        Facts("Cauchy-Schwarz divergence", "lower", 0.0, "biased upwards, the more the smaller the bandwidth"),
    ),
    two_sample.sliced_wasserstein: (
        Facts("sliced Wasserstein distance", "lower", 0.0, "its square is biased upwards by about 1/n + 1/m"),
    ),
    two_sample.max_sliced_wasserstein: (
        Facts("max-sliced Wasserstein distance", "lower", 0.0, "its square is biased upwards by about d (1/n + 1/m)"),
    ),
    two_sample.sinkhorn_divergence: (
        Facts("Sinkhorn divergence", "lower", 0.0, "biased upwards, the more the smaller the blur"),
    ),
    two_sample.exact_wasserstein: (
        Facts("Wasserstein distance", "lower", 0.0, "biased upwards by about n^(-1/d) in d > 2 dimensions"),
    ),
    two_sample.prdc: (
        Facts(
            "precision",
            "higher",
            None,
            "no fixed value at equality; above that of real rows the scale collapsed",
            SHARE,
        ),
        Facts("recall", "higher", None, "no fixed value at equality; falls with the number of columns", SHARE),
        Facts("density", "near", 1.0, "expectation 1 at every sample size; above 1 the scale collapsed"),
        Facts("coverage", "higher", None, "1 - prod_{i=1..k} (n - i)/(n + m - i) at equality", SHARE),
    ),
    two_sample.vendi_ratio: (Facts("Vendi ratio", "near", 1.0, "at equal numbers of rows, the smaller set's"),),
}


def facts_of(measure: Callable[..., Any]) -> tuple[Facts, ...]:
    """Facts of a two-sample measure of this package, one for each number it returns; partials are looked through.

    Raises:
        ValueError: A function that is not in the table: state its facts when you assess it.
    """
    inner = unwrapped(measure)
    if inner not in _TABLE:
        name = getattr(inner, "__name__", repr(inner))
        raise ValueError(f"measure: expected a measure with known facts, found {name}; pass facts=Facts(...).")
    return _TABLE[inner]


def known() -> tuple[Callable[..., Any], ...]:
    """Every two-sample measure with facts."""
    return tuple(_TABLE)


def unwrapped(measure: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside `functools.partial` objects."""
    while isinstance(measure, functools.partial):
        measure = measure.func
    return measure
