"""One column of a table: its place in a state, its fit, its cells to levels and residuals and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clarkia.codecs.table import arrow
from clarkia.codecs.table.category import CategoryCoding, fit_category
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding, fit_key
from clarkia.codecs.table.numeric import NumericCoding, fit_numeric
from clarkia.codecs.table.options import CodingOptions
from clarkia.codecs.table.roles import NUMERIC_ROLES, check_numbers
from clarkia.errors import DataError

Coding = NumericCoding | CategoryCoding | ConstantCoding | KeyCoding
Arrays = dict[str, NDArray[Any]]
Unseen = Literal["error", "missing", "rare"]
Holes = Literal["error", "fill"]


@dataclass(frozen=True)
class Column:
    """One column of the table and its place in a state.

    Attributes:
        name: the column.
        role: what it is, one of `clarkia.codecs.table.roles.ROLES` but "drop".
        num_levels: classes of its level position, the missing one included; 1 where it has no such position.
        level: block and position of its level, None where the column has a single level.
        residual: position of its residual in the block "numeric", None where no level is a group.
        missing: the class that stands for a missing cell, None where training had none.
        nan: whether missing cells are NaN rather than null.
    """

    name: str
    role: str
    num_levels: int
    level: tuple[str, int] | None
    residual: int | None
    missing: int | None
    nan: bool


class Fitted(NamedTuple):
    """A fitted column before it has its place in a state.

    Attributes:
        name: the column.
        role: what it is.
        coding: how it is coded.
        can_miss: whether it has a missing class.
        nan: whether missing cells are NaN rather than null.
    """

    name: str
    role: str
    coding: Coding
    can_miss: bool
    nan: bool


def fit_column(name: str, role: str, array: pa.Array, groups: int, options: CodingOptions) -> Fitted:
    """Fit the coding of a column.

    Args:
        name: the column.
        role: its role.
        array: all its cells.
        groups: number of groups of equal mass of a numeric column.
        options: thresholds.

    Raises:
        DataError: a cell cannot be coded.
    """
    missing = arrow.is_missing(array)
    can_miss = bool(missing.any())
    nan = can_miss and array.null_count == 0
    if role == "constant":
        return Fitted(name, role, ConstantCoding(array.slice(0, 1)), can_miss, nan)
    check_numbers(name, array)
    values = array.filter(pa.array(~missing)) if can_miss else array
    if role == "key":
        return Fitted(name, role, fit_key(name, values), can_miss, nan)
    if role not in NUMERIC_ROLES:
        return Fitted(name, role, fit_category(values, options), can_miss, nan)
    digits = _grid_digits(name, role, values)
    bounded = role in ("date", "timestamp", "time")
    coding = fit_numeric(values, digits=digits, bounded=bounded, num_groups=groups, options=options)
    return Fitted(name, role, coding, can_miss, nan)


def _grid_digits(name: str, role: str, values: pa.Array) -> int | None:
    if pa.types.is_floating(values.type):
        return None if role == "real" else arrow.float_digits(arrow.to_floats(values), values.type)
    if pa.types.is_decimal(values.type):
        digits = arrow.decimal_digits(values)
        if digits is None:
            raise DataError(f"Column {name!r} holds decimals of more than 18 digits; cast it to float64 or drop it.")
        return digits
    return 0


def encode_column(
    column: Column,
    coding: NumericCoding | CategoryCoding,
    array: pa.Array,
    rng: np.random.Generator,
    unseen: Unseen,
    holes: Holes,
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the classes and the residuals of a column's cells.

    Args:
        column: the column.
        coding: its coding.
        array: its cells, of the fitted type.
        rng: draws residuals.
        unseen: what becomes of categories never seen.
        holes: what becomes of missing cells where training had none.

    Raises:
        DataError: a cell cannot be encoded.
    """
    check_numbers(column.name, array)
    missing = arrow.is_missing(array)
    if missing.any() and column.missing is None and holes == "error":
        row = int(np.flatnonzero(missing)[0])
        raise DataError(
            f"Column {column.name!r}, row {row + 1}: the cell is empty, but training had no missing values there."
        )
    values = array.filter(pa.array(~missing)) if missing.any() else array
    levels, z = coding.encode(values, rng)
    if isinstance(coding, CategoryCoding):
        levels = _settle_unseen(column, coding, levels, values, missing, unseen)
    if not missing.any():
        return levels, z
    all_levels = np.full(len(missing), column.missing or 0, np.int64)
    all_levels[~missing] = levels
    if z is None:
        return all_levels, None
    all_z = rng.standard_normal(len(missing))
    all_z[~missing] = z
    return all_levels, all_z


def _settle_unseen(
    column: Column,
    coding: CategoryCoding,
    levels: NDArray[np.int64],
    values: pa.Array,
    missing: arrow.Mask,
    unseen: Unseen,
) -> NDArray[np.int64]:
    unknown = levels < 0
    if not unknown.any():
        return levels
    stand_in = {"rare": coding.rare, "missing": column.missing, "error": None}[unseen]
    if stand_in is None:
        first = int(np.flatnonzero(unknown)[0])
        row = int(np.flatnonzero(~missing)[first])
        raise DataError(
            f"Column {column.name!r}, row {row + 1}: the value {values[first].as_py()!r} did not occur in training."
        )
    return np.where(unknown, stand_in, levels)


def decode_column(
    column: Column,
    coding: NumericCoding | CategoryCoding,
    arrays: Arrays,
    num_rows: int,
    uniforms: NDArray[np.float64] | None,
) -> pa.Array:
    """Return a column's cells from a state.

    Args:
        column: the column.
        coding: its coding.
        arrays: the state.
        num_rows: its number of rows.
        uniforms: draws for the rare bucket.

    Raises:
        DataError: a class is out of range or a residual is NaN.
    """
    levels = column_levels(column, arrays, num_rows)
    wrong = np.flatnonzero((levels < 0) | (levels >= column.num_levels))
    if len(wrong):
        raise DataError(
            f"Column {column.name!r}, row {wrong[0] + 1}: class {levels[wrong[0]]} is not one of its levels."
        )
    missing = None
    if column.missing is not None:
        missing = levels == column.missing
        levels = np.where(missing, 0, levels)
    if isinstance(coding, CategoryCoding):
        return coding.decode(levels, missing, uniforms)
    z = None
    if column.residual is not None:
        z = arrays["numeric"][:, column.residual].astype(np.float64)
        bad = np.flatnonzero(np.isnan(z))
        if len(bad):
            raise DataError(f"Column {column.name!r}, row {bad[0] + 1}: the residual is not a number.")
    return coding.decode(levels, z, missing, nan=column.nan)


def column_levels(column: Column, arrays: Arrays, num_rows: int) -> NDArray[np.int64]:
    """Return the class of each row of a column, zeros where it has no level position."""
    if column.level is None:
        return np.zeros(num_rows, np.int64)
    block, position = column.level
    return arrays[block][:, position].astype(np.int64)
