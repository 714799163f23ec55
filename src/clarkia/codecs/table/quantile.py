"""A monotone map between a column's coordinate and a standard normal residual."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

Floats = NDArray[np.float64]

RESIDUAL_LIMIT = 8.2
"""Residuals lie in [-8.2, 8.2]: beyond it a normal tail is below the float64 resolution of a probability near one."""

_FLAT_MARGIN = 1e-9  # a draw inside a flat keeps this share of its width from either end, above the rounding of ndtr
_LOG_SQRT_TWO_PI = 0.5 * np.log(2 * np.pi)
_GAP_ROWS = 0.01  # so many rows
_TAIL_REACH = 4.0  # a bound within this many tail scales of the extreme ends the map; a farther one only clips


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """The distribution function of one group of values, linear between knots, composed with the normal quantile.

    A *flat* is a run of knots with one coordinate and several probabilities: a value with a mass of its own. A *jump*
    is the opposite: several coordinates at one probability, a stretch that holds no mass.

    Attributes:
        x: knots, in coordinates, non-decreasing, ``(k,)``.
        below: probability below each knot, non-decreasing, ``(k,)``.
        above: probability above each knot (kept apart from ``1 - below`` for its precision in the upper tail).
        left: scale of the exponential tail below the first knot, None where the map ends there.
        right: the same above the last knot.
        low: no coordinate below this one is ever returned.
        high: no coordinate above this one is ever returned.
    """

    x: Floats
    below: Floats
    above: Floats
    left: float | None
    right: float | None
    low: float
    high: float

    @cached_property
    def z(self) -> Floats:
        """Residual at each knot (infinite at an end without a tail)."""
        return _residual(self.below, self.above)

    @cached_property
    def _flat_start(self) -> NDArray[np.intp]:
        """For each knot the first knot with the same coordinate."""
        return np.searchsorted(self.x, self.x, side="left")

    def encode(self, x: Floats, uniforms: Floats) -> Floats:
        """Return the residual of each coordinate; inside a flat it is drawn with ``uniforms``.

        Args:
            x: coordinates, ``(n,)``, finite.
            uniforms: draws in [0, 1), ``(n,)``.
        """
        last = np.searchsorted(self.x, x, side="right") - 1
        inside = np.clip(last, 0, len(self.x) - 1)
        following = np.minimum(inside + 1, len(self.x) - 1)
        start = self.x[inside]
        exact = start == x
        first = np.where(exact, self._flat_start[inside], inside)
        end = np.where(exact, inside, following)
        width = self.x[end] - start
        share = np.clip(np.divide(x - start, width, out=np.zeros_like(x), where=width > 0), 0.0, 1.0)
        share = np.where(exact, _FLAT_MARGIN + (1 - 2 * _FLAT_MARGIN) * uniforms, share)
        below = self.below[first] + share * (self.below[end] - self.below[first])
        above = self.above[end] + (1 - share) * (self.above[first] - self.above[end])
        z = np.clip(_residual(below, above), -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        return self._encode_tails(x, z)

    def _encode_tails(self, x: Floats, z: Floats) -> Floats:
        under = np.flatnonzero(x < self.x[0])
        if len(under):
            z[under] = -self._tail_residual(self.x[0] - x[under], self.below[0], self.left)
        over = np.flatnonzero(x > self.x[-1])
        if len(over):
            z[over] = self._tail_residual(x[over] - self.x[-1], self.above[-1], self.right)
        z[x < self.low] = -RESIDUAL_LIMIT
        z[x > self.high] = RESIDUAL_LIMIT
        return z

    @staticmethod
    def _tail_residual(excess: Floats, mass: float, scale: float | None) -> Floats:
        if scale is None:
            return np.full_like(excess, RESIDUAL_LIMIT)
        probability = mass * np.exp(-excess / scale)
        smallest = ndtr(-RESIDUAL_LIMIT)
        return np.minimum(-ndtri(np.maximum(probability, smallest)), RESIDUAL_LIMIT)

    def decode(self, z: Floats) -> Floats:
        """Return the coordinate of each residual, within [low, high]."""
        z = np.clip(z, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        segment, share = self._locate(z)
        start, end = self.x[segment], self.x[segment + 1]
        width = end - start
        # from the nearer end, so that both ends come out exactly
        x = np.where(share < 0.5, start + share * width, end - (1 - share) * width)
        under = np.flatnonzero(z < self.z[0])
        if len(under) and self.left is not None:
            x[under] = self.x[0] + self.left * (log_ndtr(z[under]) - np.log(self.below[0]))
        over = np.flatnonzero(z > self.z[-1])
        if len(over) and self.right is not None:
            x[over] = self.x[-1] - self.right * (log_ndtr(-z[over]) - np.log(self.above[-1]))
        return np.clip(x, self.low, self.high)

    def _locate(self, z: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Return the segment of each residual and its share of the segment's mass."""
        segment = np.clip(np.searchsorted(self.z, z, side="right") - 1, 0, len(self.x) - 2)
        tail = ndtr(-np.abs(z))
        mass = self._mass[segment]
        part = np.where(z < 0, tail - self.below[segment], tail - self.above[segment + 1])
        share = np.clip(np.divide(part, mass, out=np.zeros_like(z), where=mass > 0), 0.0, 1.0)
        share = np.where(z < 0, share, 1 - share)
        return segment, np.where(z == self.z[segment], 0.0, share)

    @cached_property
    def _mass(self) -> Floats:
        """Mass of each segment, taken on the side where it is more precise."""
        return np.where(self.below[:-1] < 0.5, np.diff(self.below), -np.diff(self.above))

    def log_slope(self, z: Floats) -> Floats:
        """Return log dz/dx at each residual; in a flat, dx is the value itself (counting measure)."""
        z = np.clip(z, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        segment = np.clip(np.searchsorted(self.z, z, side="right") - 1, 0, len(self.x) - 2)
        log_density = self._log_density[segment]
        if self.left is not None:
            under = np.flatnonzero(z < self.z[0])
            log_density[under] = log_ndtr(z[under]) - np.log(self.left)
        if self.right is not None:
            over = np.flatnonzero(z > self.z[-1])
            log_density[over] = log_ndtr(-z[over]) - np.log(self.right)
        return log_density + 0.5 * z**2 + _LOG_SQRT_TWO_PI

    @cached_property
    def _log_density(self) -> Floats:
        """Log-density of each segment, log-mass where it belongs to a flat."""
        width = np.diff(self.x)
        flat = width == 0
        end = np.searchsorted(self.x, self.x[:-1], side="right") - 1
        mass = np.where(flat, self.below[end] - self.below[self._flat_start[:-1]], self._mass)
        return np.log(np.maximum(mass, 1e-300)) - np.log(np.where(flat, 1.0, width))

    def bounds(self, x: float) -> tuple[float, float]:
        """Return the residuals just before and just after one coordinate (they differ at a flat only)."""
        if x < self.x[0] or x > self.x[-1]:
            z = float(self.encode(np.array([x], np.float64), np.array([0.5]))[0])
            return z, z
        first, last = np.searchsorted(self.x, x, side="left"), np.searchsorted(self.x, x, side="right") - 1
        if self.x[min(first, len(self.x) - 1)] == x:
            return float(self.z[first]), float(self.z[last])
        z = float(self.encode(np.array([x], np.float64), np.array([0.5]))[0])
        return z, z


def _residual(below: Floats, above: Floats) -> Floats:
    """Normal quantile of a probability given from both sides."""
    return np.where(below < above, 1.0, -1.0) * ndtri(np.minimum(below, above))


def fit_quantile_map(
    values: Floats,
    counts: NDArray[np.int64],
    *,
    step: int,
    heavy: NDArray[np.bool_],
    num_knots: int,
    low: float,
    high: float,
    holes: Floats,
) -> QuantileMap:
    """Fit the map of one group of at least two distinct values.

    Args:
        values: distinct coordinates, ascending, ``(m,)``.
        counts: rows of each, ``(m,)``.
        step: 1 where a coordinate v is an integer that stands for the cell [v, v + 1), 0 where it is a real number.
        heavy: values with a mass of their own: flats of a real group, exact cells of an integer one, ``(m,)``.
        num_knots: knots besides the forced ones.
        low: bound at or below the first value.
        high: bound at or above the last value (plus step).
        holes: integer coordinates between the values that the map must never return, ``(h,)``.
    """
    position, x = _polygon(
        values, counts.astype(np.float64), step, heavy, bounded=(low >= values[0], high <= values[-1] + step)
    )
    total = float(counts.sum())
    forced = np.repeat(heavy | (values == 0), 2)  # a knot comes back exactly, and zero has no relative error
    forced[[0, -1]] = True
    targets = np.linspace(position[0], position[-1], num_knots)[1:-1]
    cell = np.clip(np.searchsorted(position[1::2], targets, side="left"), 0, len(values) - 1)
    targets = targets[~(heavy[cell] & (targets >= position[2 * cell]))]
    runs = holes - np.arange(len(holes))  # the same for neighbouring holes, which are skipped together
    at_hole = np.interp(holes[np.searchsorted(runs, runs, side="left")], x, position)
    pairs = np.unique(
        np.stack(
            [
                np.concatenate([position[forced], targets, at_hole, at_hole]),
                np.concatenate([x[forced], np.interp(targets, position, x), holes, holes + step]),
            ],
            axis=1,
        ),
        axis=0,
    )
    pairs, left = _lower_end(pairs, total, low)
    flipped, right = _lower_end(np.stack([total - pairs[::-1, 0], -pairs[::-1, 1]], axis=1), total, -high)
    below, knots = total - flipped[::-1, 0], -flipped[::-1, 1]
    knots = np.maximum.accumulate(knots)  # interpolation may round two close knots out of order
    return QuantileMap(knots, below / total, flipped[::-1, 0] / total, left, right, low, high)


def _polygon(
    values: Floats, counts: Floats, step: int, heavy: NDArray[np.bool_], *, bounded: tuple[bool, bool]
) -> tuple[Floats, Floats]:
    """Return the corners (rows below, coordinate) of the empirical distribution function, two for each value."""
    after = np.cumsum(counts)
    before = after - counts
    middle = before + counts / 2
    # a value leaves a little mass to the gaps beside it, so that one never seen there has a density
    gap = np.diff(values) > step
    first = before + _GAP_ROWS * np.append(False, gap)
    last = after - _GAP_ROWS * np.append(gap, False)
    if step:
        start, end = first, last
        # half a row of an unbounded group lies beyond either extreme
        start[0] = 0.0 if bounded[0] else 0.5
        end[-1] -= 0.0 if bounded[1] else 0.5
    else:
        start, end = np.where(heavy, first, middle), np.where(heavy, last, middle)
    return np.stack([start, end], axis=1).ravel(), np.stack([values, values + step], axis=1).ravel()


def _lower_end(pairs: Floats, total: float, low: float) -> tuple[Floats, float | None]:
    """Close the map at its lower end: at the bound when that is near, else with the scale of an exponential tail."""
    if pairs[0, 0] <= 0:
        return pairs, None
    farther = np.flatnonzero((pairs[:, 0] > 1.5 * pairs[0, 0]) & (pairs[:, 1] > pairs[0, 1]))[0]
    scale = (pairs[farther, 1] - pairs[0, 1]) / np.log(pairs[farther, 0] / pairs[0, 0])
    if pairs[0, 1] - low <= _TAIL_REACH * scale:
        return np.concatenate([[[0.0, low]], pairs]), None
    return pairs, float(scale)
