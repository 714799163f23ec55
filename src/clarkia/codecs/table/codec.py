"""A table as a state: a categorical position over levels and, for numbers, a standard normal residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from clarkia import spaces
from clarkia.codecs.table import arrow
from clarkia.codecs.table.category import CategoryCoding, fit_category
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding, fit_key
from clarkia.codecs.table.numeric import NumericCoding, fit_numeric
from clarkia.codecs.table.options import LEVELS_BLOCK_CLASSES, CodingOptions
from clarkia.codecs.table.roles import (
    NUMERIC_ROLES,
    check_numbers,
    check_roles,
    check_table,
    choose_role,
    unknown_column,
)
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


@dataclass(frozen=True, eq=False)
class TableCodec:
    """An exactly invertible map between tables of one schema and states; make one with `TableCodec.fit`.

    Attributes:
        schema: Arrow schema of decoded tables: the fitted table's, without the dropped columns.
        columns: the columns in order.
        codings: how each is coded.
        dropped: names of the columns that were left out.
    """

    schema: pa.Schema
    columns: tuple[Column, ...]
    codings: tuple[Coding, ...]
    dropped: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        roles: Mapping[str, str] | None = None,
        *,
        groups: int | Mapping[str, int] = 1,
        options: CodingOptions | None = None,
        strict: bool = True,
    ) -> TableCodec:
        """Infer what each column is and fit its coding.

        Args:
            table: at least two columns and two rows.
            roles: declared roles by column name; the others are inferred.
            groups: number of groups of equal mass of a numeric column, for all or by name (then 1 for the rest).
            options: thresholds.
            strict: refuse a column without a single value; otherwise its nulls are replayed.

        Raises:
            DataError: the table or one of its columns cannot be coded.
        """
        roles, options = dict(roles or {}), options or CodingOptions()
        check_table(table, min_rows=2)
        check_roles(table.column_names, roles)
        if not isinstance(groups, int):
            for name in groups:
                if name not in table.column_names:
                    raise DataError(unknown_column(name, table.column_names, "groups"))
        fields, fitted, dropped = [], [], []
        for field in table.schema:
            array = arrow.one_chunk(table.column(field.name))
            role = choose_role(field.name, array, roles.get(field.name), strict=strict)
            if role == "drop":
                dropped.append(field.name)
                continue
            number = groups if isinstance(groups, int) else groups.get(field.name, 1)
            fields.append(field)
            fitted.append((field.name, role, *_fit_column(field.name, role, array, number, options)))
        codec = cls.assemble(pa.schema(fields, table.schema.metadata), fitted, tuple(dropped))
        if all(column.level is None and column.residual is None for column in codec.columns):
            raise DataError(
                "Every column of the table is constant, a key or dropped; there is nothing to learn from it."
            )
        return codec

    @classmethod
    def assemble(
        cls, schema: pa.Schema, fitted: list[tuple[str, str, Coding, bool, bool]], dropped: tuple[str, ...]
    ) -> TableCodec:
        """Give every column its positions.

        Args:
            schema: of decoded tables.
            fitted: name, role, coding, whether cells may be missing, whether missing cells are NaN; by column.
            dropped: names of columns left out.
        """
        used = {"levels": 0, "wide": 0, "numeric": 0}
        columns = []
        for name, role, coding, can_miss, nan in fitted:
            if isinstance(coding, ConstantCoding | KeyCoding):
                columns.append(Column(name, role, 1, None, None, None, nan))
                continue
            count = coding.num_levels + can_miss
            level = residual = None
            if count > 1:
                block = "levels" if count <= LEVELS_BLOCK_CLASSES else "wide"
                level, used[block] = (block, used[block]), used[block] + 1
            if coding.has_residual:
                residual, used["numeric"] = used["numeric"], used["numeric"] + 1
            columns.append(Column(name, role, count, level, residual, coding.num_levels if can_miss else None, nan))
        return cls(schema, tuple(columns), tuple(coding for _, _, coding, _, _ in fitted), dropped)

    @cached_property
    def space(self) -> spaces.Mixed:
        """The space of encoded rows: those of the blocks "numeric", "levels" and "wide" that are not empty."""
        counts: dict[str, list[int]] = {"levels": [], "wide": []}
        for column in self.columns:
            if column.level is not None:
                counts[column.level[0]].append(column.num_levels)
        width = self.num_residuals
        blocks: dict[str, spaces.Continuous | spaces.Categorical] = {}
        if width:
            blocks["numeric"] = spaces.Continuous((width,))
        for name, classes in counts.items():
            if classes:
                blocks[name] = spaces.Categorical((len(classes),), num_classes=tuple(classes))
        return spaces.Mixed.from_blocks(blocks)

    @property
    def num_residuals(self) -> int:
        """Width of the block "numeric"."""
        return sum(column.residual is not None for column in self.columns)

    def column(self, name: str) -> tuple[Column, Coding]:
        """Return a column and its coding by name.

        Raises:
            DataError: there is no such column; the message names the nearest.
        """
        for column, coding in zip(self.columns, self.codings, strict=True):
            if column.name == name:
                return column, coding
        raise DataError(unknown_column(name, [column.name for column in self.columns], "column"))

    def missing_class(self, name: str) -> int | None:
        """Return the class that stands for a missing cell of a column, None where it has none."""
        return self.column(name)[0].missing

    def encode(
        self,
        table: pa.Table,
        rng: np.random.Generator,
        *,
        unseen: Unseen = "error",
        holes: Holes = "error",
        dtype: DTypeLike = np.int64,
    ) -> Arrays:
        """Return a table's rows as a state of numpy arrays.

        Args:
            table: the columns of the fitted table, in any order, of types that convert without loss.
            rng: draws dequantisation, positions inside flats and the residuals of levels that have none.
            unseen: a category never seen raises ("error"), joins the rare bucket ("rare", where there is one) or
                becomes a missing cell ("missing", where training had any); numbers always find the nearest level.
            holes: a missing cell of a column that had none in training, or an absent column, raises ("error") or is
                filled with class 0 and a random residual ("fill": `observed` tells which cells mean something).
            dtype: integer type of the levels; must hold the largest class count.

        Returns:
            float64 ``(n, d)`` for "numeric", ``dtype`` ``(n, m)`` for "levels" and "wide".

        Raises:
            DataError: a cell cannot be encoded; the message names the column, the row and the value.
        """
        check_table(table, min_rows=0)
        state = self._empty(table.num_rows, dtype)
        for column, coding in zip(self.columns, self.codings, strict=True):
            if isinstance(coding, ConstantCoding | KeyCoding):
                continue
            array = self._cells(table, column, holes)
            levels, z = _encode_column(column, coding, array, rng, unseen, holes)
            if column.level is not None:
                block, position = column.level
                state[block][:, position] = levels
            if column.residual is not None:
                state["numeric"][:, column.residual] = z
        return state

    def observed(self, table: pa.Table) -> Arrays:
        """Return which cells of the encoded table its rows determine, as a state of bools.

        A missing cell (or absent column) determines nothing; a residual is determined where its level is a group.
        """
        known: Arrays = {
            name: np.zeros((table.num_rows, *block.shape), bool) for name, block in self.space.blocks.items()
        }
        state = self.encode(table, np.random.default_rng(0), unseen="missing", holes="fill")
        live = self.live(state)
        for column in self.columns:
            if column.name not in table.column_names or (column.level is None and column.residual is None):
                continue
            present = ~arrow.is_missing(arrow.one_chunk(table.column(column.name)))
            if column.level is not None:
                known[column.level[0]][:, column.level[1]] = present
            if column.residual is not None:
                known["numeric"][:, column.residual] = present & live[:, column.residual]
        return known

    def decode(
        self, state: Mapping[str, Any], uniforms: NDArray[np.float64] | None = None, first_row: int = 0
    ) -> pa.Table:
        """Return the table that a state stands for, in the fitted table's schema.

        Args:
            state: arrays or CPU tensors by block, any classes in range and any residuals but NaN.
            uniforms: draws in [0, 1) for the rare buckets, ``(n, columns)``; by default a fixed stream of first_row.
            first_row: number of the first row, from which keys are made.

        Raises:
            DataError: a class is out of range (a cell is still masked) or a residual is NaN.
        """
        arrays = {name: _as_numpy(state[name]) for name in self.space.blocks}
        num_rows = len(next(iter(arrays.values())))
        cells = []
        for index, (column, coding) in enumerate(zip(self.columns, self.codings, strict=True)):
            if isinstance(coding, ConstantCoding):
                cells.append(coding.decode(num_rows))
            elif isinstance(coding, KeyCoding):
                cells.append(coding.decode(num_rows, first_row))
            else:
                draws = None if uniforms is None else uniforms[:, index]
                if draws is None and isinstance(coding, CategoryCoding) and coding.rare is not None:
                    draws = np.random.default_rng([first_row, index]).random(num_rows)
                cells.append(_decode_column(column, coding, arrays, num_rows, draws))
        return pa.Table.from_arrays(cells, schema=self.schema)

    def live(self, state: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return which residual cells matter: those whose level is a group, ``(n, d)``."""
        num_rows = len(_as_numpy(next(iter(state.values()))))
        live = np.ones((num_rows, self.num_residuals), bool)
        for column, coding in zip(self.columns, self.codings, strict=True):
            if column.residual is not None and column.level is not None and isinstance(coding, NumericCoding):
                block, position = column.level
                groups = np.append(coding.is_group, np.zeros(column.num_levels - coding.num_levels, bool))
                live[:, column.residual] = groups[_as_numpy(state[block])[:, position]]
        return live

    def log_abs_det(self, state: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the sum over live residuals of log |dz/dx|, ``(n,)``.

        The log-density of a row is that of its state plus this: a density in a real column's own unit, a probability
        for every other kind (a step of a grid, a level, a repeated real value).
        """
        arrays = {name: _as_numpy(state[name]) for name in self.space.blocks}
        total = np.zeros(len(next(iter(arrays.values()))))
        for column, coding in zip(self.columns, self.codings, strict=True):
            if column.residual is not None and isinstance(coding, NumericCoding):
                levels = _levels(column, arrays, len(total))
                total += coding.log_slope(levels, arrays["numeric"][:, column.residual].astype(np.float64))
        return total

    def _empty(self, num_rows: int, dtype: DTypeLike) -> Arrays:
        largest = max((column.num_levels for column in self.columns), default=1)
        if largest > np.iinfo(dtype).max:
            raise DataError(f"dtype: {np.dtype(dtype)} does not hold {largest} classes; use a wider integer.")
        return {
            name: np.zeros((num_rows, *block.shape), np.float64 if name == "numeric" else dtype)
            for name, block in self.space.blocks.items()
        }

    def _cells(self, table: pa.Table, column: Column, holes: Holes) -> pa.Array:
        """Return a column of a table in its fitted type."""
        kind = self.schema.field(column.name).type
        if column.name not in table.column_names:
            if holes == "fill":
                return pa.nulls(table.num_rows, kind)
            raise DataError(unknown_column(column.name, table.column_names, "The table lacks a column"))
        return arrow.convert(column.name, arrow.one_chunk(table.column(column.name)), kind)


def _fit_column(
    name: str, role: str, array: pa.Array, groups: int, options: CodingOptions
) -> tuple[Coding, bool, bool]:
    """Return a column's coding, whether its cells may be missing and whether missing cells are NaN."""
    missing = arrow.is_missing(array)
    nan = bool(missing.any()) and array.null_count == 0
    if role == "constant":
        return ConstantCoding(array.slice(0, 1)), bool(missing[0]), nan
    check_numbers(name, array)
    values = array.filter(pa.array(~missing)) if missing.any() else array
    if role == "key":
        return fit_key(name, values), False, False
    if role not in NUMERIC_ROLES:
        return fit_category(values, options), bool(missing.any()), nan
    digits = _grid_digits(name, role, values)
    bounded = role in ("date", "timestamp", "time")
    coding = fit_numeric(values, digits=digits, bounded=bounded, num_groups=groups, options=options)
    return coding, bool(missing.any()), nan


def _grid_digits(name: str, role: str, values: pa.Array) -> int | None:
    if pa.types.is_floating(values.type):
        return None if role == "real" else arrow.float_digits(arrow.to_floats(values), values.type)
    if pa.types.is_decimal(values.type):
        digits = arrow.decimal_digits(values)
        if digits is None:
            raise DataError(f"Column {name!r} holds decimals of more than 18 digits; cast it to float64 or drop it.")
        return digits
    return 0


def _encode_column(
    column: Column,
    coding: NumericCoding | CategoryCoding,
    array: pa.Array,
    rng: np.random.Generator,
    unseen: Unseen,
    holes: Holes,
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
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


def _decode_column(
    column: Column,
    coding: NumericCoding | CategoryCoding,
    arrays: Arrays,
    num_rows: int,
    uniforms: NDArray[np.float64] | None,
) -> pa.Array:
    levels = _levels(column, arrays, num_rows)
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


def _levels(column: Column, arrays: Arrays, num_rows: int) -> NDArray[np.int64]:
    if column.level is None:
        return np.zeros(num_rows, np.int64)
    block, position = column.level
    return arrays[block][:, position].astype(np.int64)


def _as_numpy(block: Any) -> NDArray[Any]:
    return np.asarray(block.detach().cpu().numpy() if hasattr(block, "detach") else block)
