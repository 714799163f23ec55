"""Bootstrap draws of the distances of columns and pairs, over the synthetic rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16
from scipy import sparse

from clarkia.measures.marginals import missing_rates, spread
from clarkia.measures.pairs import discretise_shared
from clarkia.measures.rows import MixedRows, num_classes

DRAWS = 200
DRAW_CHUNK = 25  # draws whose distribution functions are held at once


def bootstrap_weights(n: int, rng: np.random.Generator, draws: int = DRAWS) -> Int16[np.ndarray, "n draws"]:
    """How often each of ``n`` rows occurs in each of ``draws`` resamples of ``n`` rows with replacement."""
    return rng.multinomial(n, np.full(n, 1.0 / n), size=draws).T.astype(np.int16)


@dataclass(frozen=True, eq=False)
class MarginalDraws:
    """Distances of every column on every resample of the synthetic rows.

    Attributes:
        kolmogorov_smirnov: Shape (draws, numeric columns).
        wasserstein: Over the real column's interquartile range, shape (draws, numeric columns).
        total_variation: Missing values dropped, shape (draws, categorical columns).
        missing: Absolute difference of missing rates, shape (draws, columns).
    """

    kolmogorov_smirnov: Float64[np.ndarray, "draws d"]
    wasserstein: Float64[np.ndarray, "draws d"]
    total_variation: Float64[np.ndarray, "draws m"]
    missing: Float64[np.ndarray, "draws columns"]


def _numeric_draws(real: np.ndarray, synthetic: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kolmogorov-Smirnov and scaled Wasserstein distances of one column, each of shape (draws,)."""
    scale = spread(real)
    real = np.sort(real[~np.isnan(real)])
    present = np.flatnonzero(~np.isnan(synthetic))
    draws = weights.shape[1]
    if not len(real) or not len(present):
        return np.full(draws, np.nan), np.full(draws, np.nan)
    points = np.unique(np.concatenate([real, synthetic[present]]))
    below_real = np.searchsorted(real, points, "right")[:, None] / len(real)
    position = sparse.csr_array(
        (np.ones(len(present)), (np.searchsorted(points, synthetic[present]), present)),
        shape=(len(points), len(synthetic)),
    )
    ks, distance = np.zeros(draws), np.zeros(draws)
    for start in range(0, draws, DRAW_CHUNK):
        part = slice(start, start + DRAW_CHUNK)
        below = np.cumsum(position @ weights[:, part].astype(np.float64), axis=0)
        gap = np.abs(below / np.maximum(below[-1], 1) - below_real)
        ks[part] = gap.max(0)
        distance[part] = np.diff(points) @ gap[:-1] / scale
    return ks, distance


def _table_draws(real: np.ndarray, synthetic: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Total variation of one column of codes (negative: dropped) on every resample, shape (draws,)."""
    _, codes = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
    keep = np.concatenate([real, synthetic]) >= 0
    known_real, known = keep[: len(real)], np.flatnonzero(keep[len(real) :])
    classes = int(codes.max(initial=-1)) + 1
    p = np.bincount(codes[: len(real)][known_real], minlength=classes) / max(known_real.sum(), 1)
    indicator = sparse.csr_array(
        (np.ones(len(known), np.float32), (codes[len(real) :][known], known)), shape=(classes, len(synthetic))
    )
    counts = (indicator @ weights.astype(np.float32)).astype(np.float64)
    return 0.5 * np.abs(counts / np.maximum(counts.sum(0), 1) - p[:, None]).sum(0)


def marginal_draws(real: MixedRows, synthetic: MixedRows, weights: Int16[np.ndarray, "n draws"]) -> MarginalDraws:
    """Compute the distances of every column on resamples of the synthetic rows.

    Args:
        real: Real rows.
        synthetic: Synthetic rows, n of them.
        weights: How often every synthetic row occurs in every resample (see ``bootstrap_weights``).
    """
    n, draws = weights.shape
    numeric = [_numeric_draws(r, s, weights) for r, s in zip(real.numeric.T, synthetic.numeric.T, strict=True)]
    tables = [_table_draws(r, s, weights) for r, s in zip(real.categorical.T, synthetic.categorical.T, strict=True)]
    holes = np.concatenate([np.isnan(synthetic.numeric), synthetic.categorical < 0], 1).astype(np.float32)
    missing = (weights.T.astype(np.float32) @ holes).astype(np.float64) / n
    empty = np.zeros((draws, 0))
    return MarginalDraws(
        kolmogorov_smirnov=np.stack([ks for ks, _ in numeric], 1) if numeric else empty,
        wasserstein=np.stack([w for _, w in numeric], 1) if numeric else empty,
        total_variation=np.stack(tables, 1) if tables else empty,
        missing=np.abs(missing - missing_rates(real)),
    )


def pair_draws(
    real: MixedRows, synthetic: MixedRows, weights: np.ndarray, rng: np.random.Generator, max_pairs: int = 200
) -> Float64[np.ndarray, " draws"]:
    """Mean joint total variation over the pairs (as in ``pair_errors``) on resamples of the synthetic rows.

    Args:
        real: Real rows.
        synthetic: Synthetic rows, n of them.
        weights: How often every synthetic row occurs in every resample, shape (n, draws).
        rng: Chooses the pairs when there are more than ``max_pairs``.
        max_pairs: Number of pairs that the mean runs over at most.
    """
    binned = discretise_shared(real.numeric, synthetic.numeric)
    codes = [np.concatenate([b, rows.categorical], 1) for b, rows in zip(binned, (real, synthetic), strict=True)]
    sizes = num_classes(*(MixedRows.of(c) for c in codes)) + 1
    first, second = np.triu_indices(codes[0].shape[1], 1)
    chosen = np.arange(len(first))
    if len(first) > max_pairs:
        chosen = rng.choice(len(first), max_pairs, replace=False)
    total = np.zeros(weights.shape[1])
    for i, j in zip(first[chosen], second[chosen], strict=True):
        known, made = ((c[:, i] + 1) * sizes[j] + c[:, j] + 1 for c in codes)
        total += _table_draws(known, made, weights) / len(chosen)
    return total


def resample(rows: MixedRows, n: int, rng: np.random.Generator) -> MixedRows:
    """Draw ``n`` rows with replacement."""
    return rows[rng.integers(len(rows), size=n)]
