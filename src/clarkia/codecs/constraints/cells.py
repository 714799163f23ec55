"""Cells of plain Arrow columns as rules see them: as numbers, as ticks, or held against a condition."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.codecs.conditions import Between, Condition, Equal, Missing, NotMissing
from clarkia.codecs.table import arrow
from clarkia.codecs.table.roles import unknown_column
from clarkia.codecs.table.scale import Grid, Line, Scale
from clarkia.codecs.table.values import category_scalar, interval, point
from clarkia.errors import DataError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def check_columns(names: Iterable[str], known: Iterable[str], rule: object) -> None:
    """Raise `DataError` where a rule speaks of a column that is not there."""
    known = list(known)
    for name in names:
        if name not in known:
            raise DataError(unknown_column(name, known, f" for the rule {str(rule)!r}"))


def cells(table: pa.Table, name: str) -> pa.Array:
    """A column as one array without a dictionary."""
    array = arrow.one_chunk(table.column(name))
    return array.dictionary_decode() if pt.is_dictionary(array.type) else array


def numbers(table: pa.Table, name: str) -> Floats:
    """A column's numbers, NaN where a cell is missing.

    Raises:
        DataError: the column does not hold numbers.
    """
    array = cells(table, name)
    if not arrow.is_number(array.type):
        raise DataError(
            f"Column {name!r} holds {array.type}, with which a rule cannot calculate; name columns of numbers, or "
            "write a text or a point in time in quotes."
        )
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def digits_of(values: Floats, kind: pa.DataType) -> int | None:
    """Decimal digits that write all values of a column; None for real numbers."""
    if pt.is_integer(kind):
        return 0
    return arrow.float_digits(values[np.isfinite(values)], kind if pt.is_floating(kind) else pa.float64())


def on_one_axis(table: pa.Table, first: str, second: str) -> tuple[pa.Array, pa.Array]:
    """Two columns of which one can be subtracted from the other: both numbers, or both of one kind of time.

    Raises:
        DataError: they do not compare.
    """
    low, high = cells(table, first), cells(table, second)
    if arrow.is_number(low.type) and arrow.is_number(high.type):
        return low, high
    if pt.is_temporal(low.type) and pt.is_temporal(high.type):
        try:
            return low.cast(high.type), high
        except pa.ArrowException:
            pass
    raise DataError(f"Columns {first!r} ({low.type}) and {second!r} ({high.type}) do not compare; convert one of them.")


def ticks(array: pa.Array) -> tuple[NDArray[np.int64], Mask]:
    """The ticks of a column of times, zero where a cell is missing, and which cells are."""
    missing = arrow.is_missing(array)
    found = np.zeros(len(array), np.int64)
    found[~missing] = arrow.to_integers(array.filter(pa.array(~missing)))
    return found, missing


def holds(name: str, array: pa.Array, condition: Condition) -> Mask:
    """Which cells meet a condition; a missing cell meets none but that it is missing.

    Args:
        name: the column, for messages.
        array: its cells, without a dictionary.
        condition: the condition.

    Raises:
        DataError: the values do not compare with what the column holds.
    """
    missing = arrow.is_missing(array)
    if isinstance(condition, Missing | NotMissing):
        return missing if isinstance(condition, Missing) else ~missing
    met = np.zeros(len(array), bool)
    values = array.filter(pa.array(~missing))
    if arrow.is_number(array.type) or pt.is_temporal(array.type):
        met[~missing] = _numbers_meet(name, values, condition)
    else:
        met[~missing] = _categories_meet(name, values, condition)
    return met


def all_hold(table: pa.Table, conditions: Mapping[str, Condition], *, holes: bool = False) -> Mask:
    """Which rows meet all conditions; with `holes` also those that might if their missing cells were known."""
    met = np.ones(table.num_rows, bool)
    for name, condition in conditions.items():
        array = cells(table, name)
        own = holds(name, array, condition)
        met &= own | arrow.is_missing(array) if holes and not isinstance(condition, NotMissing) else own
    return met


def any_missing(table: pa.Table, names: Iterable[str]) -> Mask:
    """Which rows miss a cell of some columns."""
    found = np.zeros(table.num_rows, bool)
    for name in names:
        found |= arrow.is_missing(arrow.one_chunk(table.column(name)))
    return found


def _numbers_meet(name: str, values: pa.Array, condition: Condition) -> Mask:
    scale = _scale(values)
    places = scale.coordinates(values)
    if isinstance(condition, Between):
        return interval(name, values.type, scale, condition).holds(places)
    wanted = (condition.value,) if isinstance(condition, Equal) else condition.values  # type: ignore[union-attr]
    return np.isin(places, [point(name, values.type, scale, value) for value in wanted])


def _scale(values: pa.Array) -> Scale:
    """Numbers as they are: ticks where they are whole, and a straight line for fractions."""
    kind = values.type
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return Line(None, -np.inf, np.inf)
    base = arrow.zero_integer(kind) or 0
    return Grid(base, 1, 0, *arrow.integer_limits(kind, 0))


def _categories_meet(name: str, values: pa.Array, condition: Condition) -> Mask:
    if isinstance(condition, Between):
        raise DataError(f"Column {name!r} holds categories without an order; name the values in 'in (...)'.")
    wanted = (condition.value,) if isinstance(condition, Equal) else condition.values  # type: ignore[union-attr]
    known = pa.array([category_scalar(name, value, values.type).as_py() for value in wanted], values.type)
    return np.asarray(pc.is_in(values, known).to_numpy(zero_copy_only=False))
