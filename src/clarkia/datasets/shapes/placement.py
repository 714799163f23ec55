"""Where things go: uniformly at random, refused where they come too close, the largest first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarkia._math.counters import uniforms
from clarkia.datasets.shapes.geometry import CIRCUMRADII
from clarkia.datasets.shapes.scenes import RADII, Side

GAP = 1.5
"""Least distance in points between the circles around two things, so that no point shows both."""

BORDER = 0.5
"""Least distance in points of such a circle from the border."""

TURN = 1.5
"""Least distance in points of a centre from the line that parts the two sides of a relation."""

CROWDED = 0.40
"""Share of the picture from which on things find places only after many attempts, or not at all."""

_TRIES = (8, 32, 120, 240)  # 400 draws a thing, few at first since most succeed at once
_RESTARTS = 1000
_SIGNS = ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0))  # axis and direction of left of, right of, above, below


def reach(side: Side) -> NDArray[np.float64]:
    """Radii of the circles around things in points, by size and shape, ``(2, 4)``."""
    return RADII[side][:, None] * CIRCUMRADII


def footprint(side: Side) -> NDArray[np.float64]:
    """Share of the picture that a thing takes with half the gap around it, by size and shape, ``(2, 4)``."""
    return np.pi * (reach(side) + GAP / 2) ** 2 / (side - 2 * BORDER + GAP) ** 2


def place(
    side: Side,
    shape: NDArray[np.int64],
    size: NDArray[np.int64],
    second: NDArray[np.bool_],
    relation: NDArray[np.int64],
    rows: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """Find a centre for every thing of n scenes.

    A scene in which a thing fails 400 times is begun again. The centres of a scene are a function of the seed, its row
    number and what is in it.

    Args:
        side: of the pictures in points.
        shape: index of the shape, ``(n, m)``, -1 where there is no thing.
        size: index of the size, likewise.
        second: which things belong to the second phrase, ``(n, m)``.
        relation: 0 to 3 for left of, right of, above and below, -1 for none, ``(n,)``.
        rows: row numbers, ``(n,)``.
        seed: fixes the placement.

    Returns:
        x and y in points, float64 ``(n, m, 2)``, 0 where there is no thing.

    Raises:
        ValueError: a scene that no draw could place.
    """
    circles = np.where(shape >= 0, reach(side)[size, shape], 0.0)
    order = np.argsort(-circles, axis=1, kind="stable")  # room for large things is gone once small ones lie about
    circles, second = np.take_along_axis(circles, order, 1), np.take_along_axis(second, order, 1)
    centres = np.zeros((*shape.shape, 2))
    todo = np.arange(len(rows))
    for attempt in range(_RESTARTS):
        box = _boxes(side, circles[todo], second[todo], relation[todo], rows[todo], seed, attempt)
        found, done = _place_once(circles[todo], box, rows[todo], seed, attempt)
        centres[todo[done]] = found[done]
        todo = todo[~done]
        if not len(todo):
            back = np.argsort(order, axis=1)
            return np.take_along_axis(centres, back[:, :, None], 1)
    row = todo[0]
    raise ValueError(
        f"scenes: expected things that fit, found {int((shape[row] >= 0).sum())} in row {rows[row]} that "
        f"found no place on {side} by {side} points in {_RESTARTS} attempts."
    )


def _place_once(
    circles: NDArray[np.float64], box: NDArray[np.float64], rows: NDArray[np.int64], seed: int, attempt: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One attempt at every scene: centres ``(n, m, 2)`` and which scenes succeeded."""
    n, width = circles.shape
    centres, alive = np.zeros((n, width, 2)), np.ones(n, bool)
    for j in range(width):
        need, drawn = alive & (circles[:, j] > 0), 0
        for tries in _TRIES:
            live = np.flatnonzero(need)
            if not len(live):
                break
            counters = ((attempt * width + j) * sum(_TRIES) + drawn + np.arange(tries)[:, None]) * 2 + np.arange(2)
            low, high = box[live, j, None, 0], box[live, j, None, 1]
            candidates = low + (high - low) * uniforms(seed, rows[live], counters, stream=2)
            apart = candidates[:, :, None] - centres[live, None, :j]
            least = circles[live, :j] + circles[live, j, None] + GAP
            taken = (circles[live, :j] > 0)[:, None]
            clear = ~(taken & ((apart**2).sum(-1) < least[:, None] ** 2)).any(-1)
            found = clear.any(1)
            centres[live[found], j] = candidates[found, clear[found].argmax(1)]
            need[live[found]] = False
            drawn += tries
        alive &= ~need
    return centres, alive


def _boxes(
    side: Side,
    circles: NDArray[np.float64],
    second: NDArray[np.bool_],
    relation: NDArray[np.int64],
    rows: NDArray[np.int64],
    seed: int,
    attempt: int,
) -> NDArray[np.float64]:
    """Where each centre may lie, ``(n, m, low or high, x or y)``.

    A relation draws a line across the picture; its two sides belong to the two phrases, so all first things stand in
    the relation to all second ones.
    """
    inside = np.stack([BORDER + circles, side - BORDER - circles], -1)
    box = np.stack([inside, inside], -1)
    low = np.where(circles > 0, inside[..., 0], 0).max(1) + TURN
    high = np.where(circles > 0, inside[..., 1], side).min(1) - TURN
    line = low + np.maximum(high - low, 0) * uniforms(seed, rows, attempt, stream=3)
    for code, (axis, sign) in enumerate(_SIGNS):
        of = relation == code
        before = second[of] == (sign < 0)  # left or above: the first phrase comes before the line
        lows, highs = box[of, :, 0, axis], box[of, :, 1, axis]
        box[of, :, 1, axis] = np.where(before, np.minimum(highs, line[of, None] - TURN), highs)
        box[of, :, 0, axis] = np.where(before, lows, np.maximum(lows, line[of, None] + TURN))
    return box
