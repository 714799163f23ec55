"""One column at a time: Kolmogorov-Smirnov, Wasserstein and total-variation distances, missing rates."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from clarkia.measures.rows import MixedRows, as_columns


def _present(column: np.ndarray) -> np.ndarray:
    return np.sort(column[~np.isnan(column)])


def _undefined(real: np.ndarray, synthetic: np.ndarray) -> float | None:
    """Distance when a column has no value on some side: 0 when both are empty, 1 when only one is."""
    if len(real) and len(synthetic):
        return None
    return float(len(real) != len(synthetic))


def _ks(real: np.ndarray, synthetic: np.ndarray) -> float:
    real, synthetic = _present(real), _present(synthetic)
    if (distance := _undefined(real, synthetic)) is not None:
        return distance
    points = np.concatenate([real, synthetic])
    below_real = np.searchsorted(real, points, side="right") / len(real)
    below_synthetic = np.searchsorted(synthetic, points, side="right") / len(synthetic)
    return float(np.abs(below_real - below_synthetic).max())


def kolmogorov_smirnov(real: Any, synthetic: Any) -> Float64[np.ndarray, " d"]:
    """Largest gap between the two empirical distribution functions of every numeric column, missing values dropped.

    Args:
        real: Numeric columns, shape (n, d) or (n,); NaN is missing.
        synthetic: Numeric columns, shape (m, d) or (m,).

    Returns:
        Distances in [0, 1], shape (d,); 1 where exactly one side has no value, 0 where neither has.
    """
    real, synthetic = as_columns(real, np.float64), as_columns(synthetic, np.float64)
    return np.array([_ks(r, s) for r, s in zip(real.T, synthetic.T, strict=True)])


def _wasserstein(real: np.ndarray, synthetic: np.ndarray) -> float:
    real, synthetic = _present(real), _present(synthetic)
    if (distance := _undefined(real, synthetic)) is not None:
        return 0.0 if distance == 0 else np.nan
    points = np.sort(np.concatenate([real, synthetic]))
    below_real = np.searchsorted(real, points[:-1], side="right") / len(real)
    below_synthetic = np.searchsorted(synthetic, points[:-1], side="right") / len(synthetic)
    return float(np.abs(below_real - below_synthetic) @ np.diff(points))


def spread(column: np.ndarray) -> float:
    """Return the scale of a numeric column: its interquartile range, else its standard deviation, else 1.

    The fallbacks serve columns with half their mass on one value (interquartile range 0) and constant columns.
    """
    values = column[~np.isnan(column)]
    if not len(values):
        return 1.0
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) or float(values.std()) or 1.0


def wasserstein(real: Any, synthetic: Any, *, scaled: bool = True) -> Float64[np.ndarray, " d"]:
    """Mean distance that mass must move (Wasserstein-1) in every numeric column, missing values dropped.

    Args:
        real: Numeric columns, shape (n, d) or (n,); NaN is missing.
        synthetic: Numeric columns, shape (m, d) or (m,).
        scaled: Divide by the interquartile range of the real column (by its standard deviation where that is 0).

    Returns:
        Distances, shape (d,); NaN where exactly one side has no value.
    """
    real, synthetic = as_columns(real, np.float64), as_columns(synthetic, np.float64)
    distances = np.array([_wasserstein(r, s) for r, s in zip(real.T, synthetic.T, strict=True)])
    return distances / np.array([spread(r) for r in real.T]) if scaled else distances


def _frequencies(codes: np.ndarray, classes: int, missing: bool) -> np.ndarray:
    counts = np.bincount(codes + 1, minlength=classes + 1)
    if not missing:
        counts = counts[1:]
    return counts / max(counts.sum(), 1)


def _tv(real: np.ndarray, synthetic: np.ndarray, missing: bool) -> float:
    classes = int(max(real.max(initial=-1), synthetic.max(initial=-1))) + 1
    p, q = _frequencies(real, classes, missing), _frequencies(synthetic, classes, missing)
    if p.sum() == 0 or q.sum() == 0:
        return float(p.sum() != q.sum())
    return float(0.5 * np.abs(p - q).sum())


def total_variation(real: Any, synthetic: Any, *, missing: bool = False) -> Float64[np.ndarray, " m"]:
    """Half the L1 distance between the category frequencies of every column.

    Args:
        real: Category codes, shape (n, m) or (n,); -1 is missing.
        synthetic: Category codes, shape (k, m) or (k,).
        missing: Count missing as a category of its own instead of dropping it.

    Returns:
        Distances in [0, 1], shape (m,); 1 where exactly one side has no value, 0 where neither has.
    """
    real, synthetic = as_columns(real, np.int64), as_columns(synthetic, np.int64)
    return np.array([_tv(r, s, missing) for r, s in zip(real.T, synthetic.T, strict=True)])


def missing_rates(rows: MixedRows) -> Float64[np.ndarray, " columns"]:
    """Share of missing cells in every column, numeric columns first."""
    return np.concatenate([np.isnan(rows.numeric).mean(0), (rows.categorical < 0).mean(0)])


def missing_rate_difference(real: Any, synthetic: Any) -> Float64[np.ndarray, " columns"]:
    """Absolute difference of the shares of missing cells in every column, numeric columns first."""
    return np.abs(missing_rates(MixedRows.of(real)) - missing_rates(MixedRows.of(synthetic)))


def shape_errors(real: Any, synthetic: Any) -> Float64[np.ndarray, " columns"]:
    """Error of every column's shape: Kolmogorov-Smirnov for numeric, total variation for categorical columns.

    The mean is the Shape score of TabSyn ("Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent
    Space", 2024), as an error in [0, 1]. Missing values are dropped, numeric columns come first.
    """
    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    return np.concatenate(
        [
            kolmogorov_smirnov(real.numeric, synthetic.numeric),
            total_variation(real.categorical, synthetic.categorical),
        ]
    )
