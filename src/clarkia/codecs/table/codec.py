"""A table as a state: a categorical position over levels and, for numbers, a standard normal residual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from clarkia import spaces
from clarkia.codecs.conditions import Condition
from clarkia.codecs.table import arrow, serial
from clarkia.codecs.table.category import CategoryCoding
from clarkia.codecs.table.column import (
    Arrays,
    Coding,
    Column,
    Fitted,
    Holes,
    Unseen,
    column_levels,
    decode_column,
    encode_column,
    fit_column,
)
from clarkia.codecs.table.evidence import Evidence, constant_evidence, find_evidence, find_satisfied
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding
from clarkia.codecs.table.numeric import NumericCoding
from clarkia.codecs.table.options import LEVELS_BLOCK_CLASSES, CodingOptions
from clarkia.codecs.table.roles import check_roles, check_table, choose_role, unknown_column
from clarkia.errors import DataError


@dataclass(frozen=True, eq=False)
class TableCodec:
    """An invertible map between tables of one schema and states; make one with `TableCodec.fit`.

    Decoding an encoded training table gives it back: categories, dates, times, decimals and integers exactly, as well
    as real numbers that are levels or zero; other real numbers to a relative 1e-6; keys afresh; rare values by another
    draw.
    A column of whole numbers that spans more than 2**42 steps of its resolution comes back to within 1e-12 of its span.

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
            groups: number of groups of equal mass of a numeric column, for all or by name (then 1 for the rest); from 8
                on the outermost two are cut finer.
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
                    raise DataError(unknown_column(name, table.column_names, " to give groups"))
        fields, fitted, dropped = [], [], []
        for field in table.schema:
            array = arrow.one_chunk(table.column(field.name))
            role = choose_role(field.name, array, roles.get(field.name), strict=strict)
            if role == "drop":
                dropped.append(field.name)
                continue
            number = groups if isinstance(groups, int) else groups.get(field.name, 1)
            fields.append(field)
            fitted.append(fit_column(field.name, role, array, number, options))
        codec = cls.assemble(pa.schema(fields, table.schema.metadata), fitted, tuple(dropped))
        if all(column.level is None and column.residual is None for column in codec.columns):
            raise DataError(
                "Every column of the table is constant, a key or dropped; there is nothing to learn from it."
            )
        return codec

    @classmethod
    def assemble(cls, schema: pa.Schema, fitted: Sequence[Fitted], dropped: tuple[str, ...]) -> TableCodec:
        """Give every column its positions.

        Args:
            schema: of decoded tables.
            fitted: the columns.
            dropped: names of columns left out.
        """
        used = {"levels": 0, "wide": 0, "numeric": 0}
        columns = []
        for one in fitted:
            count = level = residual = missing = None
            if isinstance(one.coding, NumericCoding | CategoryCoding):
                count = one.coding.num_levels + one.can_miss
                missing = one.coding.num_levels if one.can_miss else None
                if count > 1:
                    block = "levels" if count <= LEVELS_BLOCK_CLASSES else "wide"
                    level, used[block] = (block, used[block]), used[block] + 1
                if one.coding.has_residual:
                    residual, used["numeric"] = used["numeric"], used["numeric"] + 1
            columns.append(Column(one.name, one.role, count or 1, level, residual, missing, one.nan))
        return cls(schema, tuple(columns), tuple(one.coding for one in fitted), dropped)

    def to_files(self) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        """Return the codec as JSON values and Arrow tables by name."""
        fitted = [
            Fitted(column.name, column.role, coding, column.missing is not None, column.nan)
            for column, coding in zip(self.columns, self.codings, strict=True)
        ]
        return serial.to_files(self.schema, fitted, self.dropped)

    @classmethod
    def from_files(cls, config: Any, tables: Mapping[str, pa.Table]) -> TableCodec:
        """Invert `to_files`; everything is checked, nothing is allocated that the parts only claim.

        Args:
            config: the JSON values.
            tables: the Arrow tables, among others maybe.

        Raises:
            DataError: the parts are damaged or were altered.
        """
        return cls.assemble(*serial.from_files(config, tables))

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
        raise DataError(unknown_column(name, [column.name for column in self.columns]))

    def evidence(self, name: str, condition: Condition) -> Evidence:
        """Return what a condition on a column says about its level and its residual.

        Args:
            name: the column.
            condition: the condition; values may be texts that the column's type can be read from.

        Raises:
            DataError: there is no such column, or the condition cannot hold.
        """
        column, coding = self.column(name)
        if isinstance(coding, KeyCoding):
            raise DataError(f"Column {name!r} is a key, made afresh for every row; it cannot be asked to be anything.")
        if isinstance(coding, ConstantCoding):
            return constant_evidence(name, coding.value, condition)
        return find_evidence(name, coding, column.missing, condition)

    def satisfies(self, table: pa.Table, conditions: Mapping[str, Condition]) -> NDArray[np.bool_]:
        """Return which rows of a decoded table satisfy conditions, ``(n,)``.

        Raises:
            DataError: there is no such column, or a condition cannot hold.
        """
        satisfied = np.ones(table.num_rows, bool)
        for name, condition in conditions.items():
            self.evidence(name, condition)
            column, coding = self.column(name)
            if not isinstance(coding, ConstantCoding | KeyCoding):
                satisfied &= find_satisfied(name, coding, self._cells(table, column, "error"), condition)
        return satisfied

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
            levels, z = encode_column(column, coding, array, rng, unseen, holes)
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
                cells.append(decode_column(column, coding, arrays, num_rows, draws))
        views = [cell.cast(field.type) for cell, field in zip(cells, self.schema, strict=True)]
        return pa.Table.from_arrays(views, schema=self.schema)

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
                levels = column_levels(column, arrays, len(total))
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
            raise DataError(
                unknown_column(column.name, table.column_names, " in this table, which the model was fitted on")
            )
        return arrow.convert(column.name, arrow.one_chunk(table.column(column.name)), kind)


def _as_numpy(block: Any) -> NDArray[Any]:
    return np.asarray(block.detach().cpu().numpy() if hasattr(block, "detach") else block)
