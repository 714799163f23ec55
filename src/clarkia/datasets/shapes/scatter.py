"""Scenes of things that have nothing to do with each other, for trying judges on."""

from __future__ import annotations

from typing import Any

import numpy as np

from clarkia._math.counters import uniforms
from clarkia.datasets.shapes.grammar import COLOURS, SHAPES, SIZES
from clarkia.datasets.shapes.placement import CROWDED, footprint, place
from clarkia.datasets.shapes.scenes import Scenes, Side


def scatter(side: Side, count: int, rows: Any, seed: int = 0) -> Scenes:
    """Scenes of a number of things whose shapes, colours and sizes are drawn independently.

    Where they would crowd the picture, later large things are small instead.

    Args:
        side: side of the pictures in points.
        count: things of a scene.
        rows: row numbers, ``(n,)``; a scene is a function of the seed and its row.
        seed: fixes everything drawn.

    Raises:
        ValueError: more things than the side holds.
    """
    rows, kinds = np.asarray(rows), [len(SHAPES), len(COLOURS), len(SIZES)]
    numbers = uniforms(seed, rows, np.arange(count * 3).reshape(count, 3), stream=4)
    shape, colour, size = np.moveaxis((numbers * kinds).astype(np.int64), 2, 0)
    small, large = footprint(side)[:, shape]
    more = np.cumsum(np.where(size == 1, large - small, 0), axis=1)
    size = np.where(more <= CROWDED - small.sum(1, keepdims=True), size, 0)
    centres = place(side, shape, size, np.zeros(shape.shape, bool), np.full(len(rows), -1), rows, seed)
    return Scenes(side, shape, colour, size, centres[..., 0], centres[..., 1])
