"""Arrow tables as the arrays that measures take: one typing and one coding for all tables of a report."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clarkia.errors import DataError
from clarkia.measures.rows import MixedRows

NUMERIC_ROLES = frozenset({"numeric", "integer", "decimal", "real", "date", "timestamp", "time", "duration"})
CATEGORICAL_ROLES = frozenset({"categorical", "boolean"})
LEFT_OUT_ROLES = frozenset({"key", "drop"})
KEY_ROWS = 20  # in fewer rows, distinct values are no sign of an identifier


@dataclass(frozen=True)
class ReportColumn:
    """A column of the real table as the report reads it.

    Attributes:
        name: Name in the table.
        kind: "numeric", "categorical", or for columns that no measure of distance sees "key" or "drop".
        type: Arrow type in the real table.
    """

    name: str
    kind: str
    type: pa.DataType


@dataclass(frozen=True, eq=False)
class CodedTables:
    """Tables as rows of numbers and codes.

    Attributes:
        columns: Every column of the real table, in its order.
        numeric: Names of the numeric columns, in the order of the arrays.
        categorical: Names of the categorical columns, in the order of the arrays.
        categories: For every categorical column the value of every code, as text.
        rows: One set of rows a table, by the word that names it.
    """

    columns: tuple[ReportColumn, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    rows: Mapping[str, MixedRows]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measured columns, numeric ones first, as in every matrix of pairs."""
        return self.numeric + self.categorical


def _is_number(type_: pa.DataType) -> bool:
    return (
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or (pa.types.is_temporal(type_) and not pa.types.is_interval(type_))
    )


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _all_distinct(column: pa.ChunkedArray) -> bool:
    return len(column) >= KEY_ROWS and pc.count_distinct(column, mode="all").as_py() == len(column)


def _sequential(column: pa.ChunkedArray) -> bool:
    """Whether distinct integers fill at least half of their range, as running numbers do."""
    low, high = pc.min_max(column).as_py().values()
    return high - low < 2 * len(column)


def _default_kind(name: str, column: pa.ChunkedArray) -> str:
    type_ = column.type
    if _is_number(type_):
        return "key" if pa.types.is_integer(type_) and _all_distinct(column) and _sequential(column) else "numeric"
    if _is_text(type_):
        return "key" if _all_distinct(column) else "categorical"
    if pa.types.is_boolean(type_) or pa.types.is_dictionary(type_) or pa.types.is_null(type_):
        return "categorical"
    raise DataError(
        f"Column '{name}' has the type {type_}, which a report cannot compare; remove it or give it the role 'drop'."
    )


def _declared_kind(name: str, role: str, column: pa.ChunkedArray) -> str:
    if role == "constant":
        return _default_kind(name, column)
    if role in NUMERIC_ROLES:
        return "numeric"
    if role in CATEGORICAL_ROLES:
        return "categorical"
    if role in LEFT_OUT_ROLES:
        return role
    known = ", ".join(sorted(NUMERIC_ROLES | CATEGORICAL_ROLES | LEFT_OUT_ROLES | {"constant"}))
    raise DataError(f"Column '{name}' has the unknown role '{role}'; the roles are {known}.")


def type_columns(real: pa.Table, roles: Mapping[str, str] | None = None) -> tuple[ReportColumn, ...]:
    """Decide for every column of the real table how it is compared.

    Args:
        real: The real table. Integers, reals, decimals, dates and times are numeric; strings, booleans and
            dictionaries are categorical; running numbers and strings that are all distinct are keys.
        roles: Roles by column name that override the default.

    Raises:
        DataError: A role is unknown, names an unknown column, or a column's type cannot be compared.
    """
    roles = dict(roles or {})
    for name in roles:
        require_column(name, real.column_names, "roles")
    duplicated = {name for name in real.column_names if real.column_names.count(name) > 1}
    if duplicated:
        raise DataError(f"Column name '{min(duplicated)}' occurs more than once in the real table; rename one of them.")
    return tuple(
        ReportColumn(
            name,
            _declared_kind(name, roles[name], real.column(name))
            if name in roles
            else _default_kind(name, real.column(name)),
            real.schema.field(name).type,
        )
        for name in real.column_names
    )


def require_column(name: str, names: Sequence[str], where: str) -> None:
    """Raise a ``DataError`` that suggests the nearest names when a column does not exist."""
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or list(names)[:3]
        raise DataError(f"Column '{name}' given in {where} does not exist; nearest are {', '.join(map(repr, close))}.")


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _as_numbers(column: pa.ChunkedArray, spec: ReportColumn, table: str) -> np.ndarray:
    """Column as float64 in the unit of the real table's type, NaN for missing."""
    column, target = _decoded(column), _value_type(spec.type)
    try:
        if pa.types.is_temporal(target):
            column = column.cast(target, safe=False)
            storage = pa.int32() if pa.types.is_date32(target) or pa.types.is_time32(target) else pa.int64()
            column = column.cast(storage)
        numbers = column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Column '{spec.name}' of the {table} table has the type {column.type} and cannot be read as numbers "
            f"({str(error).splitlines()[0]}); give it the role 'categorical' or mend the table."
        ) from error
    values = numbers.to_numpy().astype(np.float64)
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise DataError(f"Column '{spec.name}' of the {table} table is infinite in row {row}; use a null instead.")
    return values


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _as_values(column: pa.ChunkedArray) -> pa.Array:
    """Column as plain values, NaN made null."""
    values = _decoded(column).combine_chunks()
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values


def _one_type(columns: Mapping[str, pa.Array], name: str) -> list[pa.Array]:
    """Columns of all tables under the real table's type; numbers of different types all as reals, so none is cut."""
    types = [column.type for column in columns.values()]
    if all(type_ == types[0] for type_ in types):
        return list(columns.values())
    target = pa.string() if pa.types.is_null(types[0]) else types[0]
    if all(pa.types.is_integer(type_) or pa.types.is_floating(type_) for type_ in types):
        target = pa.float64()
    unified = []
    for table, column in columns.items():
        try:
            unified.append(column.cast(target))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"Column '{name}' has the type {column.type} in the {table} table but {types[0]} in the real table; "
                f"convert it to {types[0]}."
            ) from error
    return unified


def _label(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_codes(columns: Sequence[pa.Array]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Codes of every table's column under one coding, and the text of every code."""
    coded = pa.chunked_array(columns).combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    parts = np.split(codes, np.cumsum([len(column) for column in columns])[:-1])
    return parts, tuple(_label(value) for value in coded.dictionary.to_pylist())


def _check_table(word: str, table: pa.Table, columns: Sequence[ReportColumn]) -> None:
    if table.num_rows == 0:
        raise DataError(f"The {word} table has no rows.")
    for column in columns:
        if column.name not in table.column_names:
            raise DataError(f"The {word} table has no column '{column.name}', which the real table has; add it.")


def code_tables(columns: Sequence[ReportColumn], tables: Mapping[str, pa.Table]) -> CodedTables:
    """Code all tables of a report alike.

    Args:
        columns: The columns of the real table.
        tables: Tables by the word that names them in messages.

    Raises:
        DataError: A table lacks a column, has no rows, or a column cannot be converted.
    """
    numeric = [c for c in columns if c.kind == "numeric"]
    categorical = [c for c in columns if c.kind == "categorical"]
    if not numeric and not categorical:
        raise DataError("The real table has no column that can be compared; give at least one column a role.")
    for word, table in tables.items():
        _check_table(word, table, [*numeric, *categorical])
    coded = [
        _as_codes(_one_type({word: _as_values(t.column(spec.name)) for word, t in tables.items()}, spec.name))
        for spec in categorical
    ]
    rows = {}
    for i, (word, table) in enumerate(tables.items()):
        numbers = [_as_numbers(table.column(spec.name), spec, word) for spec in numeric]
        codes = [parts[i] for parts, _ in coded]
        rows[word] = MixedRows(
            np.stack(numbers, 1) if numbers else np.zeros((table.num_rows, 0)),
            np.stack(codes, 1) if codes else np.zeros((table.num_rows, 0), np.int64),
        )
    return CodedTables(
        tuple(columns),
        tuple(c.name for c in numeric),
        tuple(c.name for c in categorical),
        tuple(labels for _, labels in coded),
        rows,
    )
