"""The unit shapes, and how much of each point of a patch they cover.

Every unit shape meets every horizontal line in one interval around its middle. So a row of samples needs no test a
sample: where the interval begins and ends says how many samples of each point lie in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUB = 4
"""Samples along the side of a point: a coverage is a count out of `SUB` squared."""

CIRCUMRADII = np.array([1.0, 1.253, 1.56, 1.21])
"""Radii of the circles around the unit circle, square, triangle and cross."""

SQUARE = 0.886
BASE, TIP, SLOPE = 0.779, -1.559, 1.732
BAR, ARM = 0.36, 1.15


def patch_size(radius: float) -> int:
    """Side in points of a patch that holds any thing of a radius wherever in the middle point its centre lies."""
    return int(np.ceil(2 * radius * CIRCUMRADII.max())) + 2


def coverage(
    shape: NDArray[np.int64],
    radius: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    patch: int,
) -> NDArray[np.int8]:
    """Count the samples of every point of a patch that lie in a shape.

    Args:
        shape: which unit shape, ``(k,)``.
        radius: in points, ``(k,)``.
        x: centre in points from the patch's left border, ``(k,)``.
        y: centre from its upper border.
        patch: side of the patch in points, at most 31.

    Returns:
        From 0 to 16, ``(k, patch, patch)``, rows from above.
    """
    size = SUB * patch
    rows = (np.arange(size) + 0.5) / SUB
    half = _half_width((rows - y[:, None]) / radius[:, None], shape) * radius[:, None]
    # Sample i lies at (i + 1/2) / SUB; the first and one past the last inside, none where the width is below zero.
    first = np.ceil((x[:, None] - half) * SUB - 0.5)
    stop = np.maximum(np.floor((x[:, None] + half) * SUB + 0.5), first)
    ends = np.clip(np.stack([first, stop]), 0, size).astype(np.int8)  # 124 fits
    before = np.clip(ends[..., None] - np.arange(0, size, SUB, dtype=np.int8), 0, SUB)
    counts = before[1] - before[0]
    return counts.reshape(len(shape), patch, SUB, patch).sum(2, dtype=np.int8)


def _half_width(v: NDArray[np.float64], shape: NDArray[np.int64]) -> NDArray[np.float64]:
    """Half the width of the unit shapes at height v ``(k, rows)``, v pointing down; -1 beyond them."""
    height = np.abs(v)
    circle = np.where(height <= 1, np.sqrt(np.maximum(1 - v * v, 0)), -1)
    square = np.where(height <= SQUARE, SQUARE, -1)
    triangle = np.where((v <= BASE) & (v >= TIP), (v - TIP) / SLOPE, -1)
    cross = np.where(height <= BAR, ARM, np.where(height <= ARM, BAR, -1))
    return np.choose(shape[:, None], [circle, square, triangle, cross])
