"""Arrow columns as plain integers or floats, and back, without loss."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.errors import DataError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks of a second, by Arrow's units."""

_DAY = 86_400
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, the calendar that Python can show
_INT64 = (-(2**63), 2**63 - 1)
_SIGN_BIT = np.uint64(1 << 63)
_LARGEST_REAL = 1e300


def one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one contiguous array (dictionaries unified, views as plain text or bytes)."""
    if isinstance(column, pa.ChunkedArray):
        if pt.is_dictionary(column.type) and column.num_chunks > 1:
            column = column.unify_dictionaries()
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column.cast(working_type(column.type))


def working_type(kind: pa.DataType) -> pa.DataType:
    """Return the type as which a column is worked on: its own, but plain text or bytes for a view of them."""
    if pt.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pt.is_binary_view(kind) else kind


def is_missing(array: pa.Array) -> Mask:
    """Return which cells are null, NaN, or refer to a null dictionary entry, ``(n,)``."""
    return np.asarray(pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is an integer, a float or a decimal."""
    return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's string types."""
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def to_floats(array: pa.Array) -> Floats:
    """Return the cells of a numeric array without nulls as float64."""
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))


def from_floats(values: Floats, kind: pa.DataType, missing: Mask | None, *, nan: bool = False) -> pa.Array:
    """Return float64 values in a column's own type; missing cells are NaN with ``nan``, else null."""
    if nan and missing is not None:
        values, missing = np.where(missing, np.nan, values), None
    if pt.is_float16(kind):
        return pa.array(values.astype(np.float16), kind, mask=missing)
    return pa.array(values, pa.float64(), mask=missing).cast(kind, safe=False)


def to_integers(array: pa.Array, digits: int = 0) -> Integers:
    """Return the cells of an array without nulls as int64.

    Temporal cells count their own unit, decimals and floats the unit 10**-digits; uint64 is shifted by 2**63.
    """
    kind = array.type
    if pt.is_floating(kind):
        return np.rint(to_floats(array) * 10.0**digits).astype(np.int64)
    if pt.is_decimal(kind):
        return _decimal_integers(array.cast(pa.decimal128(38, digits)))
    if pt.is_uint64(kind):
        return (array.to_numpy() ^ _SIGN_BIT).view(np.int64)
    if pt.is_date32(kind) or pt.is_time32(kind):
        array = array.cast(pa.int32())
    return np.asarray(array.cast(pa.int64()).to_numpy())


def from_integers(
    values: Integers, kind: pa.DataType, digits: int, missing: Mask | None, *, nan: bool = False
) -> pa.Array:
    """Invert `to_integers`; missing cells are null (NaN in a float column with ``nan``)."""
    if pt.is_floating(kind):
        return from_floats(values / 10.0**digits, kind, missing, nan=nan)
    if pt.is_decimal(kind):
        return _decimal_array(values, digits, missing).cast(kind)
    if pt.is_uint64(kind):
        return pa.array(values.view(np.uint64) ^ _SIGN_BIT, kind, mask=missing)
    array = pa.array(values, pa.int64(), mask=missing)
    if pt.is_date32(kind) or pt.is_time32(kind):
        array = array.cast(pa.int32())
    return array.cast(kind)


def _decimal_integers(array: pa.Array) -> Integers:
    """Read the unscaled 128-bit integers, whose upper halves only repeat the sign (`decimal_digits` has seen to it)."""
    halves = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return halves[::2].copy()


def _decimal_array(values: Integers, digits: int, missing: Mask | None) -> pa.Array:
    halves = np.stack([values, values >> 63], axis=1)
    validity = None if missing is None else pa.array(~missing).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(38, digits), len(values), [validity, pa.py_buffer(halves)])


def decimal_digits(array: pa.Array) -> int | None:
    """Return the least scale at which a decimal array is exact, None where its integers need more than 64 bits."""
    for digits in range(array.type.scale + 1):
        try:
            exact = array.cast(pa.decimal128(38, digits))
        except pa.ArrowInvalid:
            continue
        halves = np.frombuffer(exact.buffers()[1], np.int64)[2 * exact.offset : 2 * (exact.offset + len(exact))]
        return digits if np.array_equal(halves[1::2], halves[::2] >> 63) else None
    return None


def float_digits(values: Floats, kind: pa.DataType, max_digits: int = 9) -> int | None:
    """Return the least number of decimal digits that write every value of a float column, None for real numbers."""
    own = kind.to_pandas_dtype()
    largest = np.abs(values).max(initial=0.0)
    for digits in range(max_digits + 1):
        scale = 10.0**digits
        if largest * scale > 2.0**53:
            return None
        if np.array_equal((np.rint(values * scale) / scale).astype(own), values.astype(own)):
            return digits
    return None


def ticks_per_second(kind: pa.DataType) -> int:
    """Return how many integers of `to_integers` a second has in a temporal column."""
    return 1000 if pt.is_date64(kind) else TICKS[kind.unit]


def integer_limits(kind: pa.DataType, digits: int) -> tuple[int, int]:
    """Return the least and greatest `to_integers` value that a cell of this type may hold."""
    if pt.is_floating(kind):
        exact = {16: 2**11, 32: 2**24, 64: 2**53}[kind.bit_width]
        return -exact, exact
    if pt.is_decimal(kind):
        largest = min(10 ** (kind.precision - kind.scale + digits) - 1, _INT64[1])
        return -largest, largest
    if pt.is_date32(kind):
        return _FIRST_DAY, _LAST_DAY
    if pt.is_date64(kind):
        return _FIRST_DAY * _DAY * 1000, _LAST_DAY * _DAY * 1000
    if pt.is_time(kind):
        return 0, _DAY * TICKS[kind.unit] - 1
    if pt.is_timestamp(kind):
        ticks = _DAY * TICKS[kind.unit]
        return max(_FIRST_DAY * ticks, _INT64[0]), min((_LAST_DAY + 1) * ticks - 1, _INT64[1])
    if pt.is_integer(kind) and kind.bit_width < 64:
        bits = kind.bit_width
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pt.is_signed_integer(kind) else (0, 2**bits - 1)
    return _INT64


def real_limits(kind: pa.DataType) -> tuple[float, float]:
    """Return the least and greatest number that a float column of this type may hold."""
    largest = min(float(np.finfo(kind.to_pandas_dtype()).max), _LARGEST_REAL)
    return -largest, largest


def zero_integer(kind: pa.DataType) -> int | None:
    """Return the `to_integers` value of zero where zero is a natural bound, None for points in time."""
    if pt.is_uint64(kind):
        return _INT64[0]
    return 0 if is_number(kind) or pt.is_duration(kind) else None


def natural_units(kind: pa.DataType) -> list[int]:
    """Return the units coarser than one, coarsest first, in which people count a column of this type."""
    if pt.is_temporal(kind) and not pt.is_date32(kind):
        ticks = ticks_per_second(kind)
        return [ticks * _DAY, ticks * 3600, ticks * 60, *(10**k for k in range(len(str(ticks)) - 1, 0, -3))]
    return [] if pt.is_date32(kind) else [10**k for k in range(18, 0, -1)]


def convert(name: str, array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column in another type, exactly; a dictionary type stands for the type of its values.

    Raises:
        DataError: a cell does not convert; the message names the column, the row and the value.
    """
    if array.type == kind:
        return array
    kind = working_type(kind.value_type if pt.is_dictionary(kind) else kind)
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pt.is_floating(array.type) and not pt.is_floating(kind):  # NaN has no place outside of floats
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    for row, cell in enumerate(array):
        try:
            cell.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"Column {name!r}, row {row + 1}: {cell.as_py()!r} is no {kind}, which the column held in training."
            ) from None
    raise DataError(f"Column {name!r} has the type {array.type}, but held {kind} in training; convert it.")
