"""Mixed rows as one numeric matrix: the encodings that classifiers and nearest neighbours work on.

Every function takes the reference rows first: they set the scales, the categories and the columns.
"""

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from clarkia.measures.rows import MixedRows, concatenate, num_classes

TREE_CATEGORIES = 250  # scikit-learn's histogram trees hold 255 categories a column; rarer ones share one code

Matrices = tuple[Float64[np.ndarray, "rows features"], ...]


def one_hot(codes: np.ndarray, classes: np.ndarray) -> Float64[np.ndarray, "n total"]:
    """One-hot columns of category codes; missing has a column, a code beyond ``classes`` is all zeros.

    Args:
        codes: Category codes, shape (n, m); -1 is missing.
        classes: Number of categories of every column, shape (m,).

    Returns:
        Shape (n, sum(classes + 1)); the first column of every block is missing.
    """
    offsets = np.concatenate([[0], np.cumsum(classes + 1)])
    out = np.zeros((len(codes), int(offsets[-1])))
    known = codes < classes
    out[np.nonzero(known)[0], (codes + 1 + offsets[:-1])[known]] = 1.0
    return out


def _impute(reference: MixedRows, *others: MixedRows) -> list[np.ndarray]:
    """Numeric columns with missing cells at the mean of the reference."""
    present = ~np.isnan(reference.numeric)
    mean = np.where(present, reference.numeric, 0.0).sum(0) / np.maximum(present.sum(0), 1)
    return [np.where(np.isnan(rows.numeric), mean, rows.numeric) for rows in (reference, *others)]


def _join(numeric: list[np.ndarray], parts: tuple[MixedRows, ...], classes: np.ndarray, scale: float) -> Matrices:
    """Numeric matrices beside scaled one-hot columns, without the one-hot columns that are zero in every part."""
    hot = [one_hot(rows.categorical, classes) for rows in parts]
    used = np.logical_or.reduce([matrix.any(0) for matrix in hot])
    return tuple(np.concatenate([a, b[:, used] * scale], 1) for a, b in zip(numeric, hot, strict=True))


def min_max(reference: MixedRows, *others: MixedRows) -> Matrices:
    """Numeric columns scaled to [0, 1] on the reference (missing at its mean) beside one-hot columns."""
    numeric = _impute(reference, *others)
    low = numeric[0].min(0, initial=np.inf)
    width = numeric[0].max(0, initial=-np.inf) - low
    numeric = [(columns - low) / np.where(width > 0, width, 1.0) for columns in numeric]
    return _join(numeric, (reference, *others), num_classes(reference), 1.0)


def plain(reference: MixedRows, *others: MixedRows) -> Matrices:
    """Numeric columns in their own units (missing at the reference's mean) beside one-hot columns."""
    return _join(_impute(reference, *others), (reference, *others), num_classes(reference), 1.0)


def _normal_scores(reference: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Normal quantile of the mid-rank of every value among the reference values, 0 for missing."""
    values = np.sort(reference[~np.isnan(reference)])
    n = len(values)
    if n == 0:
        return np.zeros(len(column))
    mid = 0.5 * (np.searchsorted(values, column, "left") + np.searchsorted(values, column, "right")) / n
    # Half a row's mass bounds the scores of values beyond the extremes.
    return np.where(np.isnan(column), 0.0, ndtri(np.clip(mid, 0.5 / n, 1 - 0.5 / n)))


def rank_normal(reference: MixedRows, *others: MixedRows) -> Matrices:
    """Normal scores of numeric columns beside one-hot columns over sqrt(2): a differing category is at distance 1.

    A numeric column with missing cells adds the one-hot pair present/missing. Categories that only the other rows
    have get columns too.
    """
    parts = (reference, *others)
    numeric = [
        np.stack([_normal_scores(r, c) for r, c in zip(reference.numeric.T, rows.numeric.T, strict=True)], 1)
        if rows.numeric.shape[1]
        else np.zeros((len(rows), 0))
        for rows in parts
    ]
    holes = np.logical_or.reduce([np.isnan(rows.numeric).any(0) for rows in parts])
    flagged = tuple(
        MixedRows(
            rows.numeric, np.concatenate([np.isnan(rows.numeric[:, holes]), rows.categorical], 1).astype(np.int64)
        )
        for rows in parts
    )
    return _join(numeric, flagged, num_classes(*flagged), np.sqrt(0.5))


def tree_matrix(reference: MixedRows, *others: MixedRows) -> tuple[Matrices, np.ndarray]:
    """Columns for histogram gradient boosting: numbers with NaN, then codes with NaN for missing.

    Returns:
        The matrices, and a boolean mask of the categorical columns. Columns with more than 250 categories keep the
        250 most frequent of all rows together; the others share a code.
    """
    parts = (reference, *others)
    pooled = concatenate(parts).categorical
    maps = []
    for column, classes in zip(pooled.T, num_classes(*parts), strict=True):
        counts = np.bincount(column[column >= 0], minlength=classes)
        code = np.full(classes + 1, min(classes, TREE_CATEGORIES), np.float64)
        order = np.argsort(-counts, kind="stable")[:TREE_CATEGORIES]
        code[order] = np.arange(len(order))
        code[-1] = np.nan  # code -1, missing, reads the last entry
        maps.append(code)
    matrices = tuple(
        np.concatenate([rows.numeric, *[m[c][:, None] for m, c in zip(maps, rows.categorical.T, strict=True)]], 1)
        for rows in parts
    )
    d, m = reference.numeric.shape[1], reference.categorical.shape[1]
    return matrices, np.arange(d + m) >= d


def trainable(matrix: np.ndarray) -> np.ndarray:
    """Return training rows with 0 in columns without any value: trees refuse those, and a constant says as little."""
    return np.where(np.isnan(matrix).all(0), 0.0, matrix)
