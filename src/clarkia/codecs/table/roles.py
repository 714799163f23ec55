"""What each column of a table is: inferred from its type and values, overruled by a declaration."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from clarkia.codecs.table import arrow
from clarkia.codecs.table.category import plain
from clarkia.errors import DataError

ROLES = (
    "categorical",
    "boolean",
    "integer",
    "decimal",
    "real",
    "date",
    "timestamp",
    "time",
    "duration",
    "constant",
    "key",
    "drop",
)
NUMERIC_ROLES = frozenset({"integer", "decimal", "real", "date", "timestamp", "time", "duration"})

_KEY_ROWS = 20  # in fewer rows, distinct values are no sign of an identifier
_ALMOST_UNIQUE = 0.8
_LONG_TEXT = 40  # mean characters of a cell
_MAX_MAGNITUDE = 1e300
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


def check_table(table: pa.Table, *, min_rows: int) -> None:
    """Raise DataError unless the table has distinctly named columns and enough rows."""
    if table.num_columns == 0:
        raise DataError("The table has no columns; give it a header and at least two columns.")
    seen: set[str] = set()
    for name in table.column_names:
        if name in seen:
            raise DataError(f"Column {name!r} appears more than once; rename one of them.")
        seen.add(name)
    if min_rows > 1 and table.num_columns < 2:
        raise DataError(f"The table has one column only, {table.column_names[0]!r}; at least two are needed.")
    if table.num_rows < min_rows:
        found = {0: "no rows, only a header", 1: "one row only"}.get(table.num_rows, f"{table.num_rows} rows")
        raise DataError(f"The table has {found}; at least {min_rows} rows are needed.")


def check_roles(names: Sequence[str], roles: Mapping[str, str]) -> None:
    """Raise DataError for a declared column that is not in the table or a role that does not exist."""
    for name, role in roles.items():
        if name not in names:
            raise DataError(unknown_column(name, names, " to give a role"))
        if role not in ROLES:
            raise DataError(f"Column {name!r} is declared {role!r}, which is no role; use one of {', '.join(ROLES)}.")


def unknown_column(name: str, names: Sequence[str], where: str = "") -> str:
    """Return the sentence for a column that does not exist, with the nearest names."""
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5) or list(names)[:5]
    return f"There is no column {name!r}{where}; the nearest are {', '.join(map(repr, near))}."


def choose_role(name: str, array: pa.Array, declared: str | None, *, strict: bool) -> str:
    """Return the role of a column.

    Args:
        name: the column.
        array: all its cells.
        declared: the role the user gave it.
        strict: refuse a column without a single value, instead of replaying its nulls as a constant.

    Raises:
        DataError: the column cannot be coded, or not as declared.
    """
    if declared == "drop":
        return "drop"
    missing = arrow.is_missing(array)
    if missing.all():
        if strict and declared != "constant":
            raise DataError(f"Column {name!r} has no value in any row; drop it or declare roles={{{name!r}: 'drop'}}.")
        return "constant"
    check_type(name, array.type)
    values = array.filter(pa.array(~missing)) if missing.any() else array
    if declared is not None:
        _check_declared(name, values, declared, has_missing=bool(missing.any()))
        return declared
    return _infer(name, array, values, missing)


def check_numbers(name: str, array: pa.Array) -> None:
    """Raise DataError at the first infinite or absurdly large cell of a float column."""
    if not pt.is_floating(array.type):
        return
    numbers = np.abs(array.cast(pa.float64()).to_numpy(zero_copy_only=False))
    bad = np.flatnonzero(numbers > _MAX_MAGNITUDE)
    if len(bad):
        row = int(bad[0])
        what = "infinite" if np.isinf(numbers[row]) else "beyond 1e300 in magnitude"
        raise DataError(
            f"Column {name!r}, row {row + 1}: {array[row].as_py()!r} is {what}; "
            f"replace it, or leave the cell empty for a missing value."
        )


def check_type(name: str, kind: pa.DataType) -> None:
    """Raise DataError for a type that is neither a number, a category nor a time."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    known = arrow.is_number(kind) or arrow.is_text(kind) or pt.is_boolean(kind) or pt.is_temporal(kind)
    binary = pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind) or pt.is_binary_view(kind)
    if not (known or binary) or pt.is_interval(kind):
        raise DataError(
            f"Column {name!r} has the type {kind}, which has no place in a table of numbers, categories and times; "
            f"unpack it, or declare roles={{{name!r}: 'drop'}}."
        )


def _check_declared(name: str, values: pa.Array, declared: str, *, has_missing: bool) -> None:
    """Raise DataError where a declared role does not fit the column's type or values."""
    kind = values.type
    distinct = pc.count_distinct(plain(values)).as_py()
    fits = {
        "categorical": True,
        "boolean": distinct <= 2,
        "integer": arrow.is_number(kind),
        "decimal": arrow.is_number(kind),
        "real": arrow.is_number(kind),
        "date": pt.is_date(kind),
        "timestamp": pt.is_timestamp(kind) or pt.is_date64(kind),
        "time": pt.is_time(kind),
        "duration": pt.is_duration(kind),
        "constant": distinct == 1 and not has_missing,
        "key": (pt.is_integer(kind) or arrow.is_text(kind)) and distinct == len(values) and not has_missing,
    }
    if not fits[declared]:
        reason = (
            "which is not numeric" if declared in ("integer", "decimal", "real") else f"with {distinct} distinct values"
        )
        raise DataError(
            f"Column {name!r} is declared {declared!r} but has the type {kind}, {reason}; declare another role."
        )
    if declared == "integer" and not pt.is_integer(kind):
        numbers = arrow.to_floats(values)
        bad = np.flatnonzero(numbers != np.rint(numbers))
        if len(bad):
            found = numbers[bad[0]]
            raise DataError(f"Column {name!r} is declared 'integer' but holds {found!r}; declare it 'real'.")


def _infer(name: str, array: pa.Array, values: pa.Array, missing: arrow.Mask) -> str:
    kind = values.type
    cells = plain(values)
    if not missing.any() and pc.all(pc.equal(cells, cells[0])).as_py():
        return "constant"
    if arrow.is_text(kind):
        _check_mixed(name, array, values)
        return _text_role(name, values, complete=not missing.any())
    if pt.is_integer(kind):
        return "key" if not missing.any() and _looks_sequential(values) else "integer"
    if pt.is_floating(kind):
        digits = arrow.float_digits(arrow.to_floats(values), kind)
        return {None: "real", 0: "integer"}.get(digits, "decimal")
    if pt.is_decimal(kind):
        return "decimal"
    for role, is_kind in (
        ("boolean", pt.is_boolean),
        ("date", pt.is_date),
        ("timestamp", pt.is_timestamp),
        ("time", pt.is_time),
        ("duration", pt.is_duration),
    ):
        if is_kind(kind):
            return role
    return "categorical"


def _looks_sequential(values: pa.Array) -> bool:
    """Return whether distinct integers fill at least half of their range, or simply count the rows."""
    first, last = pc.min(values).as_py(), pc.max(values).as_py()
    if len(values) >= _KEY_ROWS:
        return last - first + 1 <= 2 * len(values) and pc.count_distinct(values).as_py() == len(values)
    numbers = values.to_numpy()
    return first in (0, 1) and last - first + 1 == len(values) and bool((numbers[1:] > numbers[:-1]).all())


def _check_mixed(name: str, array: pa.Array, values: pa.Array) -> None:
    """Raise DataError where most cells of a text column are numbers: a number column with a stray word in it."""
    numeric = pc.match_substring_regex(plain(values), _NUMBER)
    share = pc.mean(numeric.cast(pa.int8())).as_py()
    if not 0.5 <= share < 1:
        return
    cells = plain(array)
    wrong = pc.and_kleene(pc.is_valid(cells), pc.invert(pc.match_substring_regex(cells, _NUMBER)))
    row = pc.index(wrong.fill_null(False), True).as_py()
    raise DataError(
        f"Column {name!r}, row {row + 1}: {cells[row].as_py()!r} is text in a column of numbers; correct the cell, "
        f"leave it empty for a missing value, or declare roles={{{name!r}: 'categorical'}}."
    )


def _text_role(name: str, values: pa.Array, *, complete: bool) -> str:
    rows, distinct = len(values), pc.count_distinct(values).as_py()
    if rows < _KEY_ROWS:
        return "categorical"
    length = pc.mean(pc.utf8_length(values)).as_py()
    spaced = pc.mean(pc.match_substring(values, " ").cast(pa.int8())).as_py() > 0.5
    prose = length > _LONG_TEXT and spaced
    if distinct == rows and complete and not prose:
        return "key"
    if distinct >= _ALMOST_UNIQUE * rows or (prose and distinct >= 0.5 * rows):
        raise DataError(
            f"Column {name!r} is text with {distinct} different values in {rows} rows, too many to learn; "
            f"declare it in roles as 'key' (made afresh), 'categorical' or 'drop'."
        )
    return "categorical"
