"""Pairs of columns: do columns depend on each other as they really do?"""

import numpy as np

from clarkia.measures.intervals import recentred
from clarkia.measures.pairs import mean_pair, pair_errors
from clarkia.measures.resampling import bootstrap_weights, pair_draws
from clarkia.reports.floors import fresh_distances
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

FLOOR_DRAWS = 6
MAX_PAIRS = 200  # pairs that the interval looks at


def pair_floor(material: Material) -> np.ndarray:
    """Distance of every pair between two fresh samples of the sizes compared."""
    return fresh_distances(pair_errors, material.every_real, material.rows, material.rng("pair floor"), FLOOR_DRAWS)


def pair_metrics(material: Material, errors: np.ndarray, floor: np.ndarray) -> tuple[Metric, ...]:
    """Mean joint total variation over all pairs; the naive table is the real one with columns permuted.

    Args:
        material: The rows to compare.
        errors: Distance of every pair, from ``measures.pair_errors``.
        floor: Floor of every pair, from ``pair_floor``.
    """
    if len(errors) < 2:
        return ()
    rng = material.rng("pairs")
    value = mean_pair(errors)
    draws = pair_draws(
        material.real, material.synthetic, bootstrap_weights(len(material.synthetic), rng), rng, MAX_PAIRS
    )
    pairs = len(errors) * (len(errors) - 1) // 2
    note = (
        "Share of rows that must move in the joint table of two columns, mean over "
        f"{pairs:,} pairs; numbers are cut at ten quantiles of the real column and missing is a value."
    )
    if pairs > MAX_PAIRS:
        note += f" The interval comes from {MAX_PAIRS} pairs drawn at random."
    return (
        metric(
            "Joint total variation",
            "pairs",
            value,
            interval=recentred(value, draws).clip(0, 1),
            floor=mean_pair(floor),
            ceiling=mean_pair(pair_errors(material.real, material.independent)),
            rows=material.rows,
            note=note,
        ),
    )
