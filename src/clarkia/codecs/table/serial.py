"""A codec as JSON and Arrow tables, and back from data that nobody vouches for."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clarkia.codecs.table import arrow
from clarkia.codecs.table.category import CategoryCoding, cell_type, plain
from clarkia.codecs.table.column import Coding, Fitted
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding
from clarkia.codecs.table.numeric import NumericCoding
from clarkia.codecs.table.quantile import QuantileMap
from clarkia.codecs.table.roles import NUMERIC_ROLES, ROLES, check_type
from clarkia.codecs.table.scale import Grid, Line, Scale
from clarkia.errors import DataError

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
_KNOTS = pa.schema([("x", pa.float64()), ("below", pa.float64()), ("above", pa.float64())])


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class GridPart(_Part):
    """`Grid`."""

    kind: Literal["grid"] = "grid"
    base: Int64
    unit: Annotated[int, Field(ge=1, le=2**63 - 1)]
    digits: Annotated[int, Field(ge=0, le=38)]
    low: Int64
    high: Int64


class LinePart(_Part):
    """`Line`."""

    kind: Literal["line"] = "line"
    bend: Annotated[float, Field(gt=0)] | None
    low: float
    high: float


class GroupPart(_Part):
    """`QuantileMap`, with the number of its knots in the table "knots"."""

    knots: Annotated[int, Field(ge=2)]
    left: Annotated[float, Field(gt=0)] | None
    right: Annotated[float, Field(gt=0)] | None
    low: float
    high: float


class NumericPart(_Part):
    """`NumericCoding`."""

    kind: Literal["numeric"] = "numeric"
    scale: Annotated[GridPart | LinePart, Field(discriminator="kind")]
    single_values: list[Int64] | list[float]
    single_levels: list[int]
    groups: list[GroupPart]
    group_levels: list[int]
    edges: list[float]


class CategoryPart(_Part):
    """`CategoryCoding`; its values are in the tables "values", "rare" and "dictionaries"."""

    kind: Literal["category"] = "category"
    rare_counts: list[Annotated[int, Field(ge=1, le=2**53)]]


class ConstantPart(_Part):
    """`ConstantCoding`; its value is in the table "constants"."""

    kind: Literal["constant"] = "constant"


class KeyPart(_Part):
    """`KeyCoding`."""

    kind: Literal["key"] = "key"
    style: Literal["integer", "numbered", "uuid"]
    prefix: Annotated[str, Field(max_length=10_000)]
    width: Annotated[int, Field(ge=0, le=18)]
    start: Annotated[int, Field(ge=-(2**63), le=2**63)]


class ColumnPart(_Part):
    """A column."""

    name: str
    role: Literal[ROLES]  # type: ignore[valid-type]
    can_miss: bool
    nan: bool
    coding: Annotated[NumericPart | CategoryPart | ConstantPart | KeyPart, Field(discriminator="kind")]


class CodecPart(_Part):
    """A codec."""

    format: Literal[1] = 1
    columns: list[ColumnPart]
    dropped: list[str]


def to_files(
    schema: pa.Schema, fitted: list[Fitted], dropped: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Return a codec as JSON values and Arrow tables.

    Args:
        schema: of decoded tables.
        fitted: the columns.
        dropped: columns left out.
    """
    columns, groups = [], []
    lists: dict[str, dict[str, pa.Array]] = {"values": {}, "rare": {}, "dictionaries": {}, "constants": {}}
    for index, one in enumerate(fitted):
        coding, key = one.coding, f"column{index}"
        if isinstance(coding, NumericCoding):
            groups += coding.groups
        elif isinstance(coding, CategoryCoding):
            lists["values"][key] = _as_list(coding.values)
            if coding.rare is not None:
                lists["rare"][key] = _as_list(coding.rare_values)
            if coding.dictionary is not None:
                lists["dictionaries"][key] = _as_list(coding.dictionary)
        elif isinstance(coding, ConstantCoding):
            lists["constants"][key] = coding.value
        columns.append(
            ColumnPart(name=one.name, role=one.role, can_miss=one.can_miss, nan=one.nan, coding=_coding_part(coding))
        )
    tables = {"schema": schema.empty_table()}
    tables |= {name: pa.table(part) for name, part in lists.items() if part}
    if groups:
        stacked = [np.concatenate([getattr(group, name) for group in groups]) for name in _KNOTS.names]
        tables["knots"] = pa.Table.from_arrays([pa.array(part) for part in stacked], schema=_KNOTS)
    return CodecPart(columns=columns, dropped=list(dropped)).model_dump(mode="json"), tables


def from_files(config: Any, tables: Mapping[str, pa.Table]) -> tuple[pa.Schema, list[Fitted], tuple[str, ...]]:
    """Invert `to_files`, checking everything.

    Args:
        config: JSON values from anywhere.
        tables: Arrow tables from anywhere; others than those of `to_files` are left alone.

    Raises:
        DataError: the parts do not make a codec; the message says where.
    """
    try:
        part = CodecPart.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    try:
        return _build(part, tables)
    except (pa.ArrowException, KeyError, TypeError, OverflowError, IndexError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from None


def _build(part: CodecPart, tables: Mapping[str, pa.Table]) -> tuple[pa.Schema, list[Fitted], tuple[str, ...]]:
    for table in tables.values():
        table.validate(full=True)
    schema = tables["schema"].schema
    _require([column.name for column in part.columns] == schema.names, "the columns are not those of the schema")
    names = [*schema.names, *part.dropped]
    _require(len(set(names)) == len(names), "two columns have the same name")
    knots = tables["knots"] if "knots" in tables else _KNOTS.empty_table()
    _require(
        knots.schema.equals(_KNOTS) and not any(column.null_count for column in knots.columns), "the knots are wrong"
    )
    curves = np.stack([column.to_numpy() for column in knots.columns]) if len(knots) else np.empty((3, 0))
    fitted, taken = [], 0
    for index, column in enumerate(part.columns):
        field, coding = schema.field(index), column.coding
        check_type(column.name, field.type) if coding.kind != "constant" else None
        if isinstance(coding, NumericPart):
            size = sum(group.knots for group in coding.groups)
            _require(taken + size <= curves.shape[1], "there are too few knots")
            made: Coding = _numeric(column, coding, field.type, curves[:, taken : taken + size])
            taken += size
        elif isinstance(coding, CategoryPart):
            made = _category(column, coding, field.type, tables, f"column{index}")
        elif isinstance(coding, ConstantPart):
            value = arrow.one_chunk(tables["constants"][f"column{index}"])
            _require(
                len(value) == 1 and value.type == arrow.working_type(field.type), f"{column.name!r} has no constant"
            )
            made = ConstantCoding(value)
        else:
            made = _key(column, coding, field.type)
        fitted.append(Fitted(column.name, column.role, made, column.can_miss, column.nan))
    _require(taken == curves.shape[1], "there are too many knots")
    return schema, fitted, tuple(part.dropped)


def _coding_part(coding: Coding) -> NumericPart | CategoryPart | ConstantPart | KeyPart:
    if isinstance(coding, NumericCoding):
        scale = coding.scale
        return NumericPart(
            scale=GridPart(**vars(scale)) if isinstance(scale, Grid) else LinePart(**vars(scale)),
            single_values=coding.single_values.tolist(),
            single_levels=coding.single_levels.tolist(),
            groups=[
                GroupPart(knots=len(group.x), left=group.left, right=group.right, low=group.low, high=group.high)
                for group in coding.groups
            ],
            group_levels=coding.group_levels.tolist(),
            edges=coding.edges.tolist(),
        )
    if isinstance(coding, CategoryCoding):
        return CategoryPart(rare_counts=coding.rare_counts.tolist())
    if isinstance(coding, ConstantCoding):
        return ConstantPart()
    return KeyPart(style=coding.style, prefix=coding.prefix, width=coding.width, start=coding.start)  # type: ignore[arg-type]


def _numeric(column: ColumnPart, part: NumericPart, kind: pa.DataType, curves: np.ndarray) -> NumericCoding:
    where = f"column {column.name!r}"
    real = isinstance(part.scale, LinePart)
    fits = pt.is_floating(kind) if real else arrow.is_number(kind) or pt.is_temporal(kind)
    _require(fits and column.role in NUMERIC_ROLES, f"{where}: its type {kind} or role does not fit a numeric coding")
    _require(part.scale.low <= part.scale.high, f"{where}: its limits are out of order")
    if isinstance(part.scale, GridPart):
        scale: Scale = Grid(**part.scale.model_dump(exclude={"kind"}))
        exact = pt.is_floating(kind) or pt.is_decimal(kind) or scale.digits == 0
        _require(exact and scale.low <= scale.base <= scale.high, f"{where}: its grid is wrong")
    else:
        scale = Line(**part.scale.model_dump(exclude={"kind"}))
    values = np.array(part.single_values, np.float64 if real else np.int64)
    levels = part.single_levels + part.group_levels
    _require(
        len(values) == len(part.single_levels)
        and len(part.groups) == len(part.group_levels)
        and sorted(levels) == list(range(len(levels)))
        and len(levels) > 0,
        f"{where}: its levels are wrong",
    )
    _require(
        len(part.edges) == max(len(part.groups) - 1, 0)
        and bool(np.all(np.diff(part.edges) > 0))
        and bool(np.all(values[1:] > values[:-1])),
        f"{where}: its values or edges are out of order",
    )
    groups, start = [], 0
    for group in part.groups:
        groups.append(_map(where, group, curves[:, start : start + group.knots]))
        start += group.knots
    return NumericCoding(
        kind,
        scale,
        values,
        np.array(part.single_levels, np.int64),
        tuple(groups),
        np.array(part.group_levels, np.int64),
        np.array(part.edges, np.float64),
    )


def _map(where: str, part: GroupPart, curves: np.ndarray) -> QuantileMap:
    x, below, above = curves
    ordered = (
        np.isfinite(curves).all()
        and bool((np.diff(x) >= 0).all() and (np.diff(below) >= 0).all() and (np.diff(above) <= 0).all())
        and below[0] >= 0
        and above[-1] >= 0
        and below[0] < below[-1]
        and np.abs(below + above - 1).max() < 1e-9
        and part.low <= x[0]
        and x[-1] <= part.high
        and (part.left is None) == (below[0] == 0)
        and (part.right is None) == (above[-1] == 0)
    )
    _require(bool(ordered), f"{where}: its knots are no distribution function")
    return QuantileMap(x.copy(), below.copy(), above.copy(), part.left, part.right, part.low, part.high)


def _category(
    column: ColumnPart, part: CategoryPart, kind: pa.DataType, tables: Mapping[str, pa.Table], key: str
) -> CategoryCoding:
    where = f"column {column.name!r}"
    _require(column.role in ("categorical", "boolean"), f"{where}: its role does not fit a categorical coding")
    cell = cell_type(kind)
    values = _from_list(where, tables["values"], key, cell)
    rare = _from_list(where, tables["rare"], key, cell) if part.rare_counts else pa.array([], cell)
    known = pa.concat_arrays([values, rare])
    _require(
        len(values) > 0
        and len(rare) == len(part.rare_counts)
        and known.null_count == 0
        and len(pc.unique(known)) == len(known),
        f"{where}: its categories are wrong",
    )
    dictionary = None
    if pt.is_dictionary(kind):
        dictionary = _from_list(where, tables["dictionaries"], key, kind.value_type)
        _require(pc.all(pc.is_in(known, plain(dictionary))).as_py(), f"{where}: its dictionary lacks a category")
        largest = np.iinfo(kind.index_type.to_pandas_dtype()).max
        _require(len(dictionary) - 1 <= largest, f"{where}: its dictionary is too long")
    return CategoryCoding(kind, values, rare, np.array(part.rare_counts, np.int64), dictionary)


def _key(column: ColumnPart, part: KeyPart, kind: pa.DataType) -> KeyCoding:
    numeric = part.style == "integer"
    fits = pt.is_integer(kind) if numeric else arrow.is_text(kind)
    limit = 2**64 if numeric else 2**62
    _require(
        fits and not column.can_miss and part.start < limit, f"column {column.name!r}: its key does not fit its type"
    )
    return KeyCoding(kind, part.style, part.prefix, part.width, part.start)


def _as_list(values: pa.Array) -> pa.Array:
    """Return an array as a single cell."""
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _from_list(where: str, table: pa.Table, key: str, cell: pa.DataType) -> pa.Array:
    column = arrow.one_chunk(table[key])
    _require(
        len(column) == 1 and column.null_count == 0 and column.type == pa.large_list(cell), f"{where}: no categories"
    )
    return column.flatten()


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise _damaged(complaint)


def _damaged(complaint: str) -> DataError:
    return DataError(f"The codec is damaged or was altered ({complaint}); save the model again.")
