"""Single columns: does each one have the real distribution?"""

import numpy as np

from clarkia.measures.intervals import recentred
from clarkia.measures.marginals import kolmogorov_smirnov, missing_rate_difference, total_variation, wasserstein
from clarkia.measures.resampling import bootstrap_weights, marginal_draws
from clarkia.measures.rows import MixedRows
from clarkia.reports.floors import fresh_distances
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

FLOOR_DRAWS = 16

Distances = dict[str, np.ndarray]


def uniform_columns(real: MixedRows, n: int, rng: np.random.Generator) -> MixedRows:
    """Draw every column uniformly between its extremes or over its categories: knows the range and nothing else."""
    low = np.where(np.isnan(real.numeric), np.inf, real.numeric).min(0, initial=np.inf)
    high = np.where(np.isnan(real.numeric), -np.inf, real.numeric).max(0, initial=-np.inf)
    empty = low > high
    low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
    numeric = np.where(empty, np.nan, low + (high - low) * rng.random((n, len(low))))
    codes = np.full((n, real.categorical.shape[1]), -1, np.int64)
    for j, column in enumerate(real.categorical.T):
        if (seen := np.unique(column[column >= 0])).size:
            codes[:, j] = rng.choice(seen, n)
    return MixedRows(numeric, codes)


def column_distances(real: MixedRows, other: MixedRows) -> Distances:
    """Distances of every column by the name of the metric."""
    return {
        "Kolmogorov-Smirnov distance": kolmogorov_smirnov(real.numeric, other.numeric),
        "Wasserstein distance / IQR": wasserstein(real.numeric, other.numeric),
        "Total variation": total_variation(real.categorical, other.categorical),
        "Missing-rate difference": missing_rate_difference(real, other),
    }


def column_floors(material: Material) -> Distances:
    """Distances of every column between two fresh samples of the sizes compared."""
    d, m = material.real.numeric.shape[1], material.real.categorical.shape[1]

    def stacked(first: MixedRows, second: MixedRows) -> np.ndarray:
        return np.concatenate(list(column_distances(first, second).values()))

    rng = material.rng("column floors")
    flat = fresh_distances(stacked, material.every_real, material.rows, rng, FLOOR_DRAWS)
    return dict(zip(NOTES, np.split(flat, np.cumsum([d, d, m])), strict=True))


NOTES = {
    "Kolmogorov-Smirnov distance": "Largest gap between the cumulative distributions of a number, mean over columns.",
    "Wasserstein distance / IQR": "How far values must move, in interquartile ranges, mean over columns.",
    "Total variation": "Share of rows that must change category, mean over columns.",
    "Missing-rate difference": "Difference of the shares of missing cells, mean over columns.",
}


def _mean(terms: np.ndarray) -> float:
    return float(np.nanmean(terms))


def marginal_metrics(material: Material, floors: Distances) -> tuple[Metric, ...]:
    """Mean distances of the single columns; the naive table is uniform over each column's range or categories.

    Args:
        material: The rows to compare.
        floors: Floors of every column, from ``column_floors``.
    """
    real, synthetic = material.real, material.synthetic
    values = column_distances(real, synthetic)
    rng = material.rng("marginals")
    naive = column_distances(real, uniform_columns(real, len(synthetic), rng))
    drawn = marginal_draws(real, synthetic, bootstrap_weights(len(synthetic), rng))
    by_name = {
        "Kolmogorov-Smirnov distance": drawn.kolmogorov_smirnov,
        "Wasserstein distance / IQR": drawn.wasserstein,
        "Total variation": drawn.total_variation,
        "Missing-rate difference": drawn.missing,
    }
    metrics = []
    for name, terms in values.items():
        missing = name == "Missing-rate difference"
        if not len(terms) or np.isnan(terms).all() or (missing and not (naive[name].any() or terms.any())):
            continue
        metrics.append(
            metric(
                name,
                "marginals",
                _mean(terms),
                interval=recentred(_mean(terms), np.nanmean(by_name[name], 1)).clip(0, np.inf),
                floor=_mean(floors[name]),
                ceiling=_mean(naive[name]),
                rows=material.rows,
                note=NOTES[name],
            )
        )
    return tuple(metrics)
