"""Scalar quantisers: numbers to few levels, evenly spaced, of least squared error, or of equal shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float64, UInt16

Kind: TypeAlias = Literal["uniform", "lloyd", "quantile"]
MAX_BITS = 12


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Levels and the borders between them.

    Attributes:
        levels: What is read back, ascending, float64 ``(k,)`` that single precision holds.
        borders: Between neighbouring levels, ``(k - 1,)``.
    """

    levels: Float64[np.ndarray, " k"]
    borders: Float64[np.ndarray, " k-1"]

    def encode(self, values: np.ndarray) -> UInt16[np.ndarray, "..."]:
        """Index of each value's level; values beyond the last levels are cut to them."""
        return np.searchsorted(self.borders, values, "right").astype(np.uint16)

    def decode(self, codes: UInt16[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """Level of each index."""
        return self.levels[codes]


def fit_quantiser(values: np.ndarray, kind: Kind, bits: int, low: float, high: float) -> Quantiser:
    """A quantiser of ``2^bits`` levels for some values.

    ``"uniform"``: evenly spaced from ``low`` to ``high``, each value to the nearest; ``"lloyd"``: levels of least mean
    squared error on the values, each to the nearest (Lloyd's iteration from the quantiles); ``"quantile"``: parts of
    equal share, each read back as its mean.

    Args:
        values: Numbers within ``[low, high]``, any shape, at least one.
        kind: The rule.
        bits: From 1 to 12.
        low: Least level of the uniform rule.
        high: Its greatest; not below ``low``.

    Raises:
        ValueError: An unknown kind.
    """
    count = 2**bits
    if kind == "uniform":
        levels = np.linspace(low, high, count)
        return Quantiser(levels, (levels[1:] + levels[:-1]) / 2)
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {list(get_args(Kind))}, found {kind!r}.")
    ordered = np.sort(values, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    inner = np.arange(1, count) * len(ordered) // count
    levels = _means(sums, inner, ordered)
    if kind == "lloyd":
        levels = _lloyd(ordered, sums, levels)
        return _stored(levels, (levels[1:] + levels[:-1]) / 2)
    return _stored(levels, ordered[np.minimum(inner, len(ordered) - 1)])


def step_quantiser(step: float, low: float, high: float) -> Quantiser:
    """Evenly spaced levels at the whole multiples of ``step`` from ``low`` to ``high``."""
    levels = np.arange(round(low / step), round(high / step) + 1) * step
    return Quantiser(levels, (levels[1:] + levels[:-1]) / 2)


def _lloyd(ordered: np.ndarray, sums: np.ndarray, levels: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    """Alternate between means of parts and nearest levels until the levels rest."""
    scale = max(ordered[-1] - ordered[0], np.finfo(np.float64).tiny)  # bounds values that are all equal
    for _ in range(10_000):
        inner = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        moved = _means(sums, inner, ordered, levels)
        if np.abs(moved - levels).max() <= tolerance * scale:
            return moved
        levels = moved
    return levels


def _means(sums: np.ndarray, inner: np.ndarray, ordered: np.ndarray, empty: np.ndarray | None = None) -> np.ndarray:
    """Mean of each part of the ordered values; an empty part keeps its level, or sits at its border."""
    edges = np.concatenate([[0], inner, [len(ordered)]])
    counts = np.diff(edges)
    fallback = ordered[np.minimum(edges[:-1], len(ordered) - 1)] if empty is None else empty
    return np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), fallback)


def _stored(levels: np.ndarray, borders: np.ndarray) -> Quantiser:
    """Levels as the file holds them, in single precision."""
    return Quantiser(levels.astype(np.float32).astype(np.float64), borders)
