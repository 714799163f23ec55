"""Intervals of accuracies, and whether two classifiers differ on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from clarkia.measures.intervals import LEVEL, Interval, percentile_interval
from clarkia.measures.rows import stream

CELLS = 4_000_000  # clusters drawn at once


def wilson_interval(hits: int, n: int, level: float = LEVEL) -> Interval:
    """Score interval of a rate: it has a width at 0 and at 1, and covers well even of few rows.

    Args:
        hits: Rows counted.
        n: All rows; with none the interval is [0, 1].
        level: Coverage.

    Source: Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if not 0 <= hits <= n:
        raise ValueError(f"hits: expected 0 to {n}, found {hits}.")
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = float(stats.norm.ppf((1 + level) / 2)) ** 2
    middle = (hits + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return Interval(float(middle - half), float(middle + half)).clip(0, 1)


def cluster_bootstrap(
    values: Any, clusters: Any = None, *, draws: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Interval of a mean whose rows come in clusters that stand or fall together.

    Args:
        values: Numbers ``(n,)``.
        clusters: Cluster of each row ``(n,)``, of any kind; None where every row is one of its own.
        draws: Resamples of the clusters.
        seed: Seed of the resamples.
        level: Coverage.

    Raises:
        ValueError: No row, lengths that differ.

    Source: An Introduction to the Bootstrap (1993).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected numbers of shape (n,), found {values.shape}.")
    names = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    if names.shape != values.shape:
        raise ValueError(f"clusters: expected one a row, shape {values.shape}, found {names.shape}.")
    _, codes = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes).astype(np.float64)
    rng, m, found = stream(seed, "clusters"), len(sums), []
    chunk = max(1, CELLS // m)
    for start in range(0, draws, chunk):
        chosen = rng.integers(m, size=(min(chunk, draws - start), m))
        found.append(sums[chosen].sum(1) / sizes[chosen].sum(1))
    return percentile_interval(np.concatenate(found), level)


@dataclass(frozen=True)
class PairedTest:
    """Two classifiers on the same rows.

    Attributes:
        only_first: Rows that the first alone got right.
        only_second: Rows that the second alone got right.
        p_value: Of the two being equally often right where they differ, two-sided.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Any, second: Any, *, mid: bool = True) -> PairedTest:
    """Test whether two classifiers are equally accurate, from the rows on which one of them alone is right.

    Args:
        first: Which rows the first got right, booleans ``(n,)``.
        second: The same of the second.
        mid: Count the observed split by half (the mid-p value), which is nearer to uniform for equal classifiers; False
            gives the exact test, whose values are too large.

    Raises:
        ValueError: Lengths that differ.

    Source: Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages (1947); The
    McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional (2013).
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"second: expected the shape (n,) of first, found {b.shape} for {a.shape}.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    few, n = min(only_a, only_b), only_a + only_b
    tail = 2 * stats.binom.cdf(few, n, 0.5)
    # Both tails as large as the smaller one; the mid-p value counts the observed split once, not twice.
    p = tail - stats.binom.pmf(few, n, 0.5) if mid else tail
    return PairedTest(only_a, only_b, float(min(p, 1.0)))
