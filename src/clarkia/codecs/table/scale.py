"""Coordinates: a numeric column as integers on a grid, or as real numbers on a line that may be bent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clarkia.codecs.table import arrow
from clarkia.codecs.table.arrow import Floats, Integers, Mask

_ENOUGH_VALUES = 10  # so many distinct values seldom share a divisor by chance (2**-9 for the divisor 2)


@dataclass(frozen=True)
class Grid:
    """Cells ``base + unit * k`` with k an int64 coordinate; exact whatever the offset.

    Attributes:
        base: value of coordinate 0, near the middle of the data.
        unit: resolution of the data.
        digits: decimal digits of one unit of ``base`` (0 for integers and times).
        low: least value that is ever returned.
        high: greatest value that is ever returned.
    """

    base: int
    unit: int
    digits: int
    low: int
    high: int

    def coordinates(self, array: pa.Array) -> Integers:
        """Return the coordinate of each cell of an array without nulls, off-grid cells rounded to the nearest."""
        reach = 2**63 - 1
        nearby = np.clip(
            arrow.to_integers(array, self.digits), max(self.base - reach, -(2**63)), min(self.base + reach, 2**63 - 1)
        )
        distance = nearby - np.int64(self.base)
        quotient = distance // self.unit
        return quotient + (distance - quotient * self.unit > self.unit // 2)

    def cells(self, coordinates: Integers, kind: pa.DataType, missing: Mask | None, *, nan: bool) -> pa.Array:
        """Invert `coordinates` into an array of the column's type."""
        bounded = np.clip(coordinates, *self.coordinate_limits)
        # int64 arithmetic modulo 2**64: the true result fits, so the wrapped one equals it
        values = bounded * np.int64(self.unit) + np.int64(self.base)
        return arrow.from_integers(values, kind, self.digits, missing, nan=nan)

    @property
    def coordinate_limits(self) -> tuple[int, int]:
        """Least and greatest coordinate whose value lies in [low, high]."""
        reach = 2**63 - 1
        return max(-((self.base - self.low) // self.unit), -reach), min((self.high - self.base) // self.unit, reach)

    def log_slope(self, coordinates: Floats) -> Floats:
        """Return zeros: a density in coordinates is a mass for each grid cell."""
        return np.zeros(len(coordinates))


@dataclass(frozen=True)
class Line:
    """Real numbers x, as they are or bent to ``asinh(x / bend)`` where magnitudes differ too much for one scale.

    Attributes:
        bend: magnitude at which the line turns from linear to logarithmic, None for a straight line.
        low: least number that is ever returned.
        high: greatest number that is ever returned.
    """

    bend: float | None
    low: float
    high: float

    def coordinates(self, array: pa.Array) -> Floats:
        """Return the coordinate of each cell of an array without nulls."""
        return self.of_numbers(arrow.to_floats(array) + 0.0)  # + 0.0 turns -0.0 into 0.0

    def of_numbers(self, x: Floats) -> Floats:
        """Return the coordinate of each number."""
        if self.bend is None:
            return x
        size = np.abs(x)
        ratio = np.minimum(size, self.bend * 1e8) / self.bend
        far = np.log(np.maximum(size, self.bend)) - np.log(self.bend) + np.log(2.0)
        return np.copysign(np.where(size < self.bend * 1e8, np.arcsinh(ratio), far), x)

    def numbers(self, coordinates: Floats) -> Floats:
        """Invert `of_numbers`."""
        if self.bend is not None:
            size = np.abs(coordinates)
            near = self.bend * np.sinh(np.minimum(size, 20.0))
            far = np.exp(np.minimum(size - np.log(2.0) + np.log(self.bend), 709.0))
            coordinates = np.copysign(np.where(size < np.arcsinh(1e8), near, far), coordinates)
        return np.clip(coordinates, self.low, self.high)

    def cells(self, coordinates: Floats, kind: pa.DataType, missing: Mask | None, *, nan: bool) -> pa.Array:
        """Invert `coordinates` into an array of the column's type."""
        return arrow.from_floats(self.numbers(coordinates), kind, missing, nan=nan)

    @property
    def coordinate_limits(self) -> tuple[float, float]:
        """Coordinates of low and high."""
        low, high = self.of_numbers(np.array([self.low, self.high]))
        return float(low), float(high)

    def log_slope(self, coordinates: Floats) -> Floats:
        """Return the log of d coordinate / d x."""
        if self.bend is None:
            return np.zeros(len(coordinates))
        x = self.numbers(coordinates)
        return -np.log(np.hypot(x, self.bend))


Scale = Grid | Line


def distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values, ascending, and the count of each (by one sort: faster than hashing long columns)."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


def fit_grid(array: pa.Array, digits: int) -> Grid:
    """Return the grid of an array without nulls: its resolution, and limits that its type and its sign allow."""
    kind = array.type
    values, _ = distinct(arrow.to_integers(array, digits))
    low, high = int(values[0]), int(values[-1])
    divisor = int(np.gcd.reduce(values.view(np.uint64) - values[:1].view(np.uint64)))
    unit = max(divisor, 1)
    if len(values) < _ENOUGH_VALUES:
        unit = next((u for u in arrow.natural_units(kind) if divisor and divisor % u == 0), 1)
    least, greatest = arrow.integer_limits(kind, digits)
    zero = arrow.zero_integer(kind)
    if zero is not None and low >= zero:
        least = max(least, zero)
    if zero is not None and high <= zero:
        greatest = min(greatest, zero)
    middle = low + ((high - low) // unit // 2) * unit
    return Grid(middle, unit, digits, min(least, low), max(greatest, high))


def straight_line(values: Floats, kind: pa.DataType) -> Line:
    """Return the line of a real column, within its type and on its side of zero."""
    low, high = arrow.real_limits(kind)
    return Line(None, 0.0 if values.min() >= 0 else low, 0.0 if values.max() <= 0 else high)
