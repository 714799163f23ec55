"""Scenes as pictures: many at once, with four by four samples a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarkia.datasets.shapes.geometry import SUB, coverage, patch_size
from clarkia.datasets.shapes.scenes import GROUND, PALETTE, RADII, Scenes


def render(scenes: Scenes) -> NDArray[np.float32]:
    """Draw scenes.

    Args:
        scenes: n of them; a later thing covers an earlier one, what lies beyond the border is cut off.

    Returns:
        Red, green and blue from -1 to 1, ``(n, 3, side, side)``.
    """
    side = scenes.side
    pictures = np.full((len(scenes), side, side, 3), GROUND, np.float32)
    for j in range(scenes.shape.shape[1]):
        for size, radius in enumerate(RADII[side]):
            _draw(pictures, scenes, np.flatnonzero(scenes.size[:, j] == size), j, float(radius))
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def to_bytes(pictures: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures from -1 to 1 as bytes from 0 to 255."""
    return np.rint((np.clip(pictures, -1, 1) + 1) * 127.5).astype(np.uint8)


def _draw(pictures: NDArray[np.float32], scenes: Scenes, rows: NDArray[np.int64], j: int, radius: float) -> None:
    """Draw thing j, of one radius, into the pictures of some rows."""
    x, y, patch = scenes.x[rows, j], scenes.y[rows, j], patch_size(radius)
    left, top = corner(x, patch, scenes.side), corner(y, patch, scenes.side)
    counts = coverage(scenes.shape[rows, j], np.full(len(rows), radius), x - left, y - top, patch)
    place = (rows[:, None, None], span(top, patch)[:, :, None], span(left, patch)[:, None, :])
    share = (counts * np.float32(1 / SUB**2))[..., None]
    before = pictures[place]
    pictures[place] = before + share * (PALETTE[scenes.colour[rows, j]][:, None, None] - before)


def corner(centre: NDArray[np.float64], patch: int, side: int) -> NDArray[np.int64]:
    """The first point of the patches around centres, moved to lie within the picture."""
    return np.clip(np.floor(centre).astype(np.int64) - patch // 2, 0, side - patch)


def span(first: NDArray[np.int64], patch: int) -> NDArray[np.int64]:
    """The points of patches along an axis, ``(k, patch)``."""
    return first[:, None] + np.arange(patch)
