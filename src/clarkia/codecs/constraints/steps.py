"""Rules that hold by construction: each is a change of columns that can be undone exactly."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.codecs.constraints.cells import cells, digits_of, numbers, on_one_axis, ticks
from clarkia.codecs.constraints.rules import Mask, Ordered, Rule, Sum
from clarkia.codecs.table import arrow
from clarkia.errors import DataError


class Step(Protocol):
    """A change of columns under which rules hold whatever the remaining cells are."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that it builds in."""
        ...

    @property
    def removed(self) -> tuple[str, ...]:
        """Columns that are there before and not after."""
        ...

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that it is undone with."""
        ...

    @property
    def added(self) -> str | None:
        """The column that takes their place, where there is one."""
        ...

    def implied(self, table: pa.Table) -> pa.Table:
        """The table with every empty cell filled that the others of its row determine.

        Raises:
            DataError: a row holds less than what can be coded, or nothing can fill it; the message names it.
        """
        ...

    def forward(self, table: pa.Table) -> pa.Table:
        """The table with the removed columns replaced."""
        ...

    def backward(self, table: pa.Table) -> pa.Table:
        """The removed columns back, after all others."""
        ...


@dataclass(frozen=True)
class SumStep:
    """The total is left out, and added up again.

    Attributes:
        rule: the sum, with its digits.
        field: the total's column.
    """

    rule: Sum
    field: pa.Field
    added: str | None = None

    @classmethod
    def fit(cls, rule: Sum, table: pa.Table) -> SumStep:
        """Of a table that keeps the rule."""
        digits = tuple(_exact_digits(table, name) for name in rule.columns)
        return cls(replace(rule, digits=digits), table.schema.field(rule.total))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The sum."""
        return (self.rule,)

    @property
    def digits(self) -> tuple[int | None, ...]:
        """Of the last decimal of each column of the rule, in its order; None for real numbers."""
        assert self.rule.digits is not None
        return self.rule.digits

    @property
    def removed(self) -> tuple[str, ...]:
        """The total."""
        return (self.rule.total,)

    @property
    def needed(self) -> tuple[str, ...]:
        """Its parts."""
        return self.rule.columns[1:]

    def implied(self, table: pa.Table) -> pa.Table:
        """The one part that is missing where the total is there."""
        empty = {name: arrow.is_missing(cells(table, name)) for name in self.rule.columns}
        holes = np.sum([empty[name] for name in self.needed], axis=0)
        bad = np.flatnonzero(~empty[self.rule.total] & (holes > 1))
        if len(bad):
            row = int(bad[0])
            names = " and ".join(repr(name) for name in self.needed if empty[name][row])
            raise DataError(
                f"Row {row + 1}: {self.rule.total!r} is there while {names} are empty, and the rule {str(self.rule)!r} "
                "does not tell one from the other; fill in all but one of them, or empty the total."
            )
        for (name, factor), digits in zip(self.rule.terms, self.digits[1:], strict=True):
            hole = empty[name] & ~empty[self.rule.total]
            if hole.any():
                others = tuple((part, -other / factor) for part, other in self.rule.terms if part != name)
                solved = Sum(name, ((self.rule.total, 1 / factor), *others), -self.rule.constant / factor)
                table = _filled_in(table, solved, hole, digits)
                self._check_solved(table, name, hole)
        return table

    def _check_solved(self, table: pa.Table, name: str, hole: Mask) -> None:
        """Raise `DataError` where a part was rounded to what its column can hold, and the sum is no longer right."""
        bad = np.flatnonzero(hole & (self.rule.excess(table, holes=True) > 0))
        if len(bad):
            row = int(bad[0])
            total, nearest = (table.column(part)[row].as_py() for part in (self.rule.total, name))
            raise DataError(
                f"Row {row + 1}: no value that {name!r} can hold keeps the rule {str(self.rule)!r} with "
                f"{self.rule.total} = {total} (the nearest is {nearest}); correct the row, or empty the total."
            )

    def forward(self, table: pa.Table) -> pa.Table:
        """The table without the total."""
        return table.drop_columns([self.rule.total])

    def backward(self, table: pa.Table) -> pa.Table:
        """The parts added up, at the total's own resolution; a missing part makes a missing total."""
        return table.append_column(self.field, _as_column(self.rule.of_parts(table), self.field, self.digits[0]))


@dataclass(frozen=True)
class OrderStep:
    """The column that is more becomes what it is more by.

    Attributes:
        rule: the order.
        field: the column.
        digits: of the last decimal of both, None for real numbers; 0 for times.
        least: the smallest distance in training, in ticks or as it is.
    """

    rule: Ordered
    field: pa.Field
    digits: int | None
    least: float

    @classmethod
    def fit(cls, rule: Ordered, table: pa.Table) -> OrderStep:
        """Of a table that keeps the rule."""
        low, high = on_one_axis(table, rule.low, rule.high)
        digits: int | None = 0
        if arrow.is_number(low.type):
            found = [_exact_digits(table, name) for name in rule.columns]
            digits = None if None in found else max(digit for digit in found if digit is not None)
        gaps, missing = _gaps(low, high, digits)
        least = 0 if missing.all() else gaps[~missing].min()
        return cls(rule, table.schema.field(rule.high), digits, float(least))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The order."""
        return (self.rule,)

    @property
    def removed(self) -> tuple[str, ...]:
        """The column that is more."""
        return (self.rule.high,)

    @property
    def needed(self) -> tuple[str, ...]:
        """The column that is less."""
        return (self.rule.low,)

    @property
    def added(self) -> str:
        """The distance."""
        return f"{self.rule.high} - {self.rule.low}"

    def implied(self, table: pa.Table) -> pa.Table:
        """Nothing follows from an order."""
        empty = {name: arrow.is_missing(cells(table, name)) for name in self.rule.columns}
        bad = np.flatnonzero(empty[self.rule.low] & ~empty[self.rule.high])
        if len(bad):
            raise DataError(
                f"Row {bad[0] + 1}: {self.rule.high!r} is there while {self.rule.low!r} is empty, and the rule "
                f"{str(self.rule)!r} codes the one by its distance from the other; fill in {self.rule.low!r}, or empty "
                "both."
            )
        return table

    def forward(self, table: pa.Table) -> pa.Table:
        """The table with the distance in place of the column."""
        low, high = on_one_axis(table, self.rule.low, self.rule.high)
        gaps, missing = _gaps(low, high, self.digits)
        column = pa.array(gaps / 10.0**self.digits if self.digits else gaps, mask=missing)
        if pt.is_timestamp(high.type):
            column = column.cast(pa.duration(high.type.unit))
        return table.drop_columns([self.rule.high]).append_column(self.added, column)

    def backward(self, table: pa.Table) -> pa.Table:
        """The column from its distance, which is never less than the least in training."""
        low, gap = cells(table, self.rule.low), cells(table, self.added)
        start, no_start = _positions(low if arrow.is_number(low.type) else low.cast(self._kind), self.digits)
        missing = no_start | arrow.is_missing(gap)
        gap = gap.cast(pa.int64()) if pt.is_duration(gap.type) else gap
        distance = np.zeros(len(missing))
        distance[~missing] = arrow.to_floats(gap.filter(pa.array(~missing)))
        mask = missing if missing.any() else None
        if self.digits is None:
            ends = start + np.maximum(distance, self.least)
            column = arrow.from_floats(ends, self._kind, mask)
        else:
            steps = np.rint(distance * 10.0**self.digits).astype(np.int64)
            low_limit, high_limit = arrow.integer_limits(self._kind, self.digits)
            ends = np.clip(start + np.maximum(steps, np.int64(self.least)), low_limit, high_limit)
            column = arrow.from_integers(ends, self._kind, self.digits, mask)
        return table.drop_columns([self.added]).append_column(self.field, column.cast(self.field.type))

    @property
    def _kind(self) -> pa.DataType:
        return self.field.type.value_type if pt.is_dictionary(self.field.type) else self.field.type


def _exact_digits(table: pa.Table, name: str) -> int | None:
    """Decimal digits of a column's numbers, which must not be too large to add up without loss."""
    values = numbers(table, name)
    digits = digits_of(values, cells(table, name).type)
    if digits is not None and np.nanmax(np.abs(values), initial=0.0) * 10.0**digits > 2.0**50:
        raise DataError(f"Column {name!r} holds numbers too large for a rule to calculate with exactly; scale it down.")
    return digits


def _filled_in(table: pa.Table, solved: Sum, holes: Mask, digits: int | None) -> pa.Table:
    """Some cells of a column as a sum of others."""
    own, field = cells(table, solved.total), table.schema.field(solved.total)
    found = _as_column(np.where(holes, solved.of_parts(table), np.nan), pa.field(solved.total, own.type), digits)
    column = pc.if_else(pa.array(holes), found, own).cast(field.type)
    return table.set_column(table.schema.get_field_index(solved.total), field, column)


def _as_column(values: NDArray[np.float64], field: pa.Field, digits: int | None) -> pa.Array:
    """Numbers, NaN where missing, as a column of a type."""
    kind = field.type.value_type if pt.is_dictionary(field.type) else field.type
    missing = np.isnan(values)
    mask = missing if missing.any() else None
    values = np.where(missing, 0.0, values)
    if digits is not None:
        values = np.rint(values * 10.0**digits) / 10.0**digits
    if pt.is_floating(kind):
        return arrow.from_floats(values, kind, mask).cast(field.type)
    low, high = arrow.integer_limits(kind, digits or 0)
    if pt.is_integer(kind):
        over = (values < (low if not pt.is_uint64(kind) else 0)) | (np.abs(values) > 2.0**53)
        if bool((over | (values > high)).any()):
            raise DataError(f"Column {field.name!r}: a sum of its parts has no place in {kind}; convert it to int64.")
        return pa.array(values.astype(np.int64), pa.int64(), mask=mask).cast(field.type)
    units = np.rint(values * 10.0 ** (digits or 0)).astype(np.int64)
    return arrow.from_integers(units, kind, digits or 0, mask).cast(field.type)


def _positions(array: pa.Array, digits: int | None) -> tuple[NDArray, Mask]:
    """Numbers as they are or in units of their last decimal; times in ticks; zero where missing."""
    if not arrow.is_number(array.type):
        return ticks(array)
    missing = arrow.is_missing(array)
    values = np.zeros(len(array))
    values[~missing] = arrow.to_floats(array.filter(pa.array(~missing)))
    return (values, missing) if digits is None else (np.rint(values * 10.0**digits).astype(np.int64), missing)


def _gaps(low: pa.Array, high: pa.Array, digits: int | None) -> tuple[NDArray, Mask]:
    (start, no_start), (end, no_end) = _positions(low, digits), _positions(high, digits)
    return end - start, no_start | no_end
