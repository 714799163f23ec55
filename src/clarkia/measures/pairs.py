"""Two columns at a time: joint tables, correlations and the Trend scores."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

from clarkia.measures.rows import MixedRows, as_columns


def quantile_edges(column: np.ndarray, bins: int = 10) -> Float64[np.ndarray, " edges"]:
    """Inner edges that cut a column into at most ``bins`` groups of equal mass; the outer bins are open.

    Args:
        column: Numbers, shape (n,); NaN is missing and ignored.
        bins: Number of groups; fewer come out where one value holds more than its share.

    Returns:
        Distinct inner edges in increasing order, at most ``bins - 1``.
    """
    values = column[~np.isnan(column)]
    if not len(values):
        return np.zeros(0)
    return np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))


def default_edges(column: np.ndarray) -> Float64[np.ndarray, " edges"]:
    """Edges of NumPy's default histogram: ten bins of equal width from the smallest to the largest value."""
    values = column[~np.isnan(column)]
    return np.histogram_bin_edges(values) if len(values) else np.zeros(0)


def discretise(column: np.ndarray, edges: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Bin of every number (0 below the first edge, ``len(edges)`` from the last edge on), -1 for NaN."""
    return np.where(np.isnan(column), -1, np.digitize(column, edges))


def discretise_shared(real: np.ndarray, synthetic: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Cut numeric columns (n, d) and (m, d) at the quantiles of the real ones."""
    edges = [quantile_edges(column, bins) for column in real.T]
    return _apply(real, edges), _apply(synthetic, edges)


def _apply(columns: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    if not edges:
        return np.zeros((len(columns), 0), np.int64)
    return np.stack([discretise(column, cut) for column, cut in zip(columns.T, edges, strict=True)], 1)


def _indicator(codes: np.ndarray, offsets: np.ndarray) -> sparse.csr_array:
    """Sparse one-hot rows over all columns, float64 (n, total); missing (-1) is each column's first position."""
    n, m = codes.shape
    position = (codes + 1 + offsets[:-1]).ravel()
    return sparse.csr_array((np.ones(n * m), position, np.arange(0, n * m + 1, m)), shape=(n, int(offsets[-1])))


def joint_total_variation(real: Any, synthetic: Any) -> Float64[np.ndarray, "m m"]:
    """Total-variation distance of the joint table of every pair of categorical columns, missing as a value.

    All tables come from one sparse product of the one-hot rows with themselves, so columns with many values cost
    no more than the pairs of values that occur.

    Args:
        real: Category codes, shape (n, m); -1 is missing and counts as a value.
        synthetic: Category codes, shape (k, m).

    Returns:
        Symmetric matrix of distances in [0, 1]; the diagonal is the distance of the single columns.
    """
    real, synthetic = as_columns(real, np.int64), as_columns(synthetic, np.int64)
    m = real.shape[1]
    sizes = np.maximum(real.max(0, initial=-1), synthetic.max(0, initial=-1)) + 2
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    tables = []
    for codes in (real, synthetic):
        rows = _indicator(codes, offsets)
        tables.append((rows.T @ rows) / max(len(codes), 1))
    difference = abs(tables[0] - tables[1]).tocoo()
    column = np.repeat(np.arange(m), sizes)
    pair = column[difference.coords[0]] * m + column[difference.coords[1]]
    return 0.5 * np.bincount(pair, difference.data, minlength=m * m).reshape(m, m)


def correlations(columns: np.ndarray) -> Float64[np.ndarray, "d d"]:
    """Pearson correlation of every pair of numeric columns over the rows where both are present.

    Args:
        columns: Numbers, shape (n, d); NaN is missing.

    Returns:
        Correlations; NaN where a column of the pair is constant.
    """
    present = ~np.isnan(columns)
    mask = present.astype(np.float64)
    filled = np.where(present, columns, 0.0)
    count = np.maximum(mask.sum(0), 1)
    centred = (filled - filled.sum(0) / count) * mask
    scale = np.sqrt((centred**2).sum(0) / count)
    centred = centred / np.where(scale > 0, scale, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = mask.T @ mask
        mean = (centred.T @ mask) / both  # of column i over the rows where j is present too
        covariance = (centred.T @ centred) / both - mean * mean.T
        variance = (centred.T**2 @ mask) / both - mean**2
        product = np.sqrt(np.maximum(variance * variance.T, 0.0))
        # A spread below the rounding of unit-scale values is a constant column.
        return np.where(product > 1e-12, covariance / product, np.nan)


def correlation_difference(real: Any, synthetic: Any) -> Float64[np.ndarray, "d d"]:
    """Half the absolute difference of Pearson correlations of every pair; NaN where either is undefined."""
    real, synthetic = as_columns(real, np.float64), as_columns(synthetic, np.float64)
    return 0.5 * np.abs(correlations(real) - correlations(synthetic))


def trend_errors(real: Any, synthetic: Any, *, edges: str = "own") -> Float64[np.ndarray, "columns columns"]:
    """Error of every pair of columns, the terms of the Trend score of TabSyn (2024), as an error in [0, 1].

    Two numeric columns: half the difference of Pearson correlations. Two categorical columns: total variation of
    the joint table. One of each: the numeric column is cut at NumPy's default histogram edges, then the same.

    Args:
        real: Rows, or an array (see ``MixedRows.of``).
        synthetic: Rows with the same columns.
        edges: "own" cuts real and synthetic columns each at their own edges, as SDMetrics does: one outlier shifts
            all bins, so two samples of one law can score badly. "shared" cuts both at the edges of the real column,
            with the outer bins open.

    Returns:
        Symmetric matrix, numeric columns first, NaN on the diagonal and where a correlation is undefined.

    Raises:
        ValueError: ``edges`` is neither "own" nor "shared".
    """
    if edges not in ("own", "shared"):
        raise ValueError(f"edges must be 'own' or 'shared', not {edges!r}.")
    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    d = real.numeric.shape[1]
    real_edges = [default_edges(column) for column in real.numeric.T]
    if edges == "own":
        cuts = [default_edges(column) for column in synthetic.numeric.T]
    else:
        real_edges = cuts = [edge[1:-1] for edge in real_edges]
    errors = joint_total_variation(
        np.concatenate([_apply(real.numeric, real_edges), real.categorical], 1),
        np.concatenate([_apply(synthetic.numeric, cuts), synthetic.categorical], 1),
    )
    errors[:d, :d] = correlation_difference(real.numeric, synthetic.numeric)
    np.fill_diagonal(errors, np.nan)
    return errors


def pair_errors(real: Any, synthetic: Any, *, bins: int = 10) -> Float64[np.ndarray, "columns columns"]:
    """Joint total variation of every pair of columns, numeric ones cut at ``bins`` quantiles of the real column.

    The outer bins are open and missing is a value, so every row of every table counts. Two samples of one law
    differ by about ``sqrt(C / (pi n))`` over C equally likely cells.

    Returns:
        Symmetric matrix, numeric columns first, NaN on the diagonal.
    """
    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    binned_real, binned_synthetic = discretise_shared(real.numeric, synthetic.numeric, bins)
    errors = joint_total_variation(
        np.concatenate([binned_real, real.categorical], 1), np.concatenate([binned_synthetic, synthetic.categorical], 1)
    )
    np.fill_diagonal(errors, np.nan)
    return errors


def mean_pair(errors: np.ndarray) -> float:
    """Mean over the pairs of distinct columns, undefined pairs left out; NaN when there is no pair."""
    upper = errors[np.triu_indices(len(errors), 1)]
    upper = upper[~np.isnan(upper)]
    return float(upper.mean()) if len(upper) else np.nan
