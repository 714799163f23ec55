"""Confidence intervals: bootstrap for means and distances, exact for rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float

    def clip(self, low: float, high: float) -> Interval:
        """Return the interval cut to the values that the quantity can take."""
        return Interval(float(np.clip(self.low, low, high)), float(np.clip(self.high, low, high)))


def recentred(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of a distance from its bootstrap draws, moved so that the draws' mean lies on the value.

    Resampling rows adds the sampling noise a second time, which shifts a distance upwards: plain percentiles lie
    above the value. After the shift the interval covers the distance's mean over samples of this size.

    Args:
        value: The distance on the data.
        draws: The distance on the resamples, shape (draws,).
        level: Coverage.
    """
    draws = draws[~np.isnan(draws)]
    return percentile_interval(draws - draws.mean() + value if len(draws) else draws, level)


def normal_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval around the value with the spread of a few bootstrap draws, shape (draws,)."""
    half = float(stats.norm.ppf((1 + level) / 2) * np.nanstd(draws, ddof=1))
    return Interval(value - half, value + half)


def mean_interval(*groups: np.ndarray, rng: np.random.Generator, draws: int = 1000, level: float = LEVEL) -> Interval:
    """Bootstrap interval of the sum of the groups' means, each group resampled on its own.

    Args:
        groups: Terms, each of shape (n,).
        rng: Source of the resamples.
        draws: Number of resamples.
        level: Coverage.
    """
    total = np.zeros(draws)
    for terms in groups:
        values, counts = np.unique(terms, return_counts=True)
        if len(values) <= 1000:  # few distinct values: resample their counts
            total += rng.multinomial(len(terms), counts / len(terms), size=draws) @ values / len(terms)
        else:
            total += [terms[rng.integers(len(terms), size=len(terms))].mean() for _ in range(draws)]
    return percentile_interval(total, level)


def rate_interval(hits: int, n: int, level: float = LEVEL) -> Interval:
    """Exact (Clopper-Pearson) interval of a rate: unlike a bootstrap it has a width when there is no hit."""
    if n == 0:
        return Interval(0.0, 1.0)
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, hits, n - hits + 1) if hits else 0.0
    high = stats.beta.isf(tail, hits + 1, n - hits) if hits < n else 1.0
    return Interval(float(low), float(high))


def percentile_interval(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Plain percentile interval of bootstrap draws, shape (draws,); NaN draws are left out."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Interval(np.nan, np.nan)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
