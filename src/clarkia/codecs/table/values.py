"""A condition's values on the scale of a column."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.codecs.conditions import Between
from clarkia.codecs.table import arrow
from clarkia.codecs.table.scale import Grid, Scale
from clarkia.errors import DataError

_DAY = 86_400


@dataclass(frozen=True)
class Interval:
    """An interval of coordinates; on a grid both ends are whole and closed.

    Attributes:
        low: lower end, -inf where there is none.
        high: upper end, inf where there is none.
        low_open: whether the lower end is excluded.
        high_open: whether the upper end is excluded.
    """

    low: float
    high: float
    low_open: bool
    high_open: bool

    def holds(self, x: NDArray[Any]) -> arrow.Mask:
        """Return which coordinates lie inside, ``(n,)``."""
        above = x > self.low if self.low_open else x >= self.low
        below = x < self.high if self.high_open else x <= self.high
        return above & below


def interval(name: str, kind: pa.DataType, scale: Scale, condition: Between) -> Interval:
    """Return the coordinates between a condition's bounds.

    Raises:
        DataError: a bound is of a kind that the column does not hold.
    """
    if isinstance(scale, Grid):
        low: float = -math.inf
        high: float = math.inf
        if condition.low is not None:
            place = _place(name, kind, scale, condition.low)
            low = math.floor(place) + 1 if condition.low_open else math.ceil(place)
        if condition.high is not None:
            place = _place(name, kind, scale, condition.high)
            high = math.ceil(place) - 1 if condition.high_open else math.floor(place)
        return Interval(_whole(low), _whole(high), low_open=False, high_open=False)
    ends = [None if end is None else real(name, end) for end in (condition.low, condition.high)]
    low = -math.inf if ends[0] is None else float(scale.of_numbers(np.array([ends[0]]))[0])
    high = math.inf if ends[1] is None else float(scale.of_numbers(np.array([ends[1]]))[0])
    return Interval(low, high, condition.low_open, condition.high_open)


def point(name: str, kind: pa.DataType, scale: Scale, value: Any) -> float:
    """Return the coordinate of one value (an int on a grid).

    Raises:
        DataError: the value is of a kind that the column does not hold, or lies off its grid.
    """
    if not isinstance(scale, Grid):
        return float(scale.of_numbers(np.array([real(name, value)]))[0])
    place = _place(name, kind, scale, value)
    if place.denominator != 1:
        raise DataError(
            f"Column {name!r} cannot hold {value!r}: every value in training was a multiple of its resolution."
        )
    return _whole(int(place))


def real(name: str, value: Any) -> float:
    """Return a condition's value as a number."""
    return float(_number(name, value))


def category_scalar(name: str, value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a condition's value as a scalar of a categorical column's type.

    Raises:
        DataError: it is of a kind that the column does not hold.
    """
    if arrow.is_text(kind):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return pa.scalar(text, kind)
    if pt.is_boolean(kind):
        if str(value).lower() not in ("true", "false", "1", "0"):
            raise DataError(f"Column {name!r} holds true and false, to which {value!r} does not compare.")
        return pa.scalar(str(value).lower() in ("true", "1"), kind)
    try:
        if arrow.is_number(kind):
            return pa.scalar(Decimal(str(value)) if pt.is_decimal(kind) else _number(name, value), kind)
        if pt.is_temporal(kind):
            ticks = physical(name, value, kind, 0)
            return arrow.from_integers(np.array([math.floor(ticks)]), kind, 0, None)[0]
        return pa.scalar(value.encode() if isinstance(value, str) else value, kind)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Column {name!r} holds {kind}, to which {value!r} does not compare.") from None


def physical(name: str, value: Any, kind: pa.DataType, digits: int) -> Fraction:
    """Return a condition's value in the integers of `arrow.to_integers`, with its fraction.

    Raises:
        DataError: it is of a kind that the column does not hold.
    """
    if pt.is_duration(kind):
        return _elapsed(name, value) * arrow.ticks_per_second(kind)
    if pt.is_time(kind):
        return _time_of_day(name, value) * arrow.ticks_per_second(kind)
    if pt.is_date32(kind):
        return _instant(name, value, None) / _DAY
    if pt.is_temporal(kind):
        return _instant(name, value, getattr(kind, "tz", None)) * arrow.ticks_per_second(kind)
    number = Fraction(str(_number(name, value))) * 10**digits
    return number - 2**63 if pt.is_uint64(kind) else number


def _place(name: str, kind: pa.DataType, scale: Grid, value: Any) -> Fraction:
    return (physical(name, value, kind, scale.digits) - scale.base) / scale.unit


def _whole(coordinate: float) -> float:
    """Keep a whole coordinate within int64, where every other coordinate lies."""
    return max(min(coordinate, 2**63 - 1), -(2**63)) if math.isfinite(coordinate) else coordinate


def _number(name: str, value: Any) -> int | float | Decimal:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        number = Decimal("nan")
    if isinstance(value, bool) or not number.is_finite():
        raise DataError(f"Column {name!r} holds numbers, to which {value!r} does not compare.")
    return number


def _instant(name: str, value: Any, zone: str | None) -> Fraction:
    """Return seconds since 1970 of a date or a point in time; without a zone it is read in the column's."""
    import pandas as pd

    try:
        if isinstance(value, int | float | Decimal):
            raise ValueError
        moment = pd.Timestamp(value)
        if not isinstance(moment, pd.Timestamp):  # NaT
            raise ValueError
        if zone is not None:
            moment = moment.tz_localize(zone) if moment.tz is None else moment.tz_convert(zone)
        elif moment.tz is not None:
            raise ValueError
    except (ValueError, TypeError, OverflowError, KeyError):
        wanted = "points in time such as '2024-01-31 12:00'" if zone is None else f"points in time (zone {zone})"
        raise DataError(f"Column {name!r} holds {wanted}, to which {value!r} does not compare.") from None
    ticks = int(
        moment.asm8.astype("datetime64[ns]" if moment.unit == "ns" else f"datetime64[{moment.unit}]").astype("i8")
    )
    return Fraction(ticks, {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[moment.unit])


def _elapsed(name: str, value: Any) -> Fraction:
    """Return seconds of a duration such as '2 days 03:00:00' or '90s'."""
    import pandas as pd

    try:
        if isinstance(value, int | float | Decimal):
            raise ValueError
        span = pd.Timedelta(value)
        if not isinstance(span, pd.Timedelta):  # NaT
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"Column {name!r} holds durations such as '2 days 03:00:00', not {value!r}.") from None
    return Fraction(int(span.asm8.astype("i8")), arrow.TICKS[span.unit])


def _time_of_day(name: str, value: Any) -> Fraction:
    """Return seconds since midnight."""
    try:
        moment = value if isinstance(value, datetime.time) else datetime.time.fromisoformat(str(value))
    except ValueError:
        raise DataError(f"Column {name!r} holds times of day such as '08:30:00', not {value!r}.") from None
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return seconds + Fraction(moment.microsecond, 10**6)
