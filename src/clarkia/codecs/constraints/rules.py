"""What must hold between the columns of a table: sums, orders, bounds, if-then, and values that occur together."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from clarkia.codecs.conditions import Condition, Missing, NotMissing, render, render_name
from clarkia.codecs.constraints.cells import (
    Floats,
    Mask,
    all_hold,
    any_missing,
    cells,
    digits_of,
    holds,
    numbers,
    on_one_axis,
    ticks,
)
from clarkia.codecs.table import arrow
from clarkia.errors import DataError

Terms: TypeAlias = tuple[tuple[str, float], ...]
Relation: TypeAlias = Literal["<", "<=", ">", ">="]

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ROUNDING = 1e-9
"""Relative error of adding float64 numbers up, with room; those of narrower types have less precision."""

_LEAST = 1e-12
"""By how much a row that breaks a rule is beyond it at the least."""

_HALF = 0.5
"""What yes and no count, with a sign: as far from each other as one."""


class Rule(Protocol):
    """What must hold in every row. Its text, ``str(rule)``, is what `parse_rule` reads."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it speaks of."""
        ...

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far each row is beyond what it allows, ``(n,)``: above zero where it is broken; NaN where nobody knows.

        Args:
            table: rows with the columns it speaks of.
            holes: whether a row keeps it where a cell that is needed is missing.

        Raises:
            DataError: a column holds what the rule cannot be about.
        """
        ...


def kept(rule: Rule, table: pa.Table, *, holes: bool) -> Mask:
    """Which rows keep a rule; the arguments are those of `Rule.excess`."""
    return rule.excess(table, holes=holes) <= 0


@dataclass(frozen=True)
class Sum:
    """A column is a sum of others: ``total = rent + 0.5 * food - 3``.

    A row keeps it up to the rounding of the total's own last digit, where the sum of its parts may have more.

    Attributes:
        total: the column.
        terms: the others with their coefficients.
        constant: what is added to them.
        within: by how much it may be off besides.
        digits: of the last decimal of each of `columns`, None for real numbers. Rows are rounded alike only where this
            is known, see `measured`; otherwise what the rows at hand need counts.
    """

    total: str
    terms: Terms
    constant: float = 0.0
    within: float = 0.0
    digits: tuple[int | None, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Sum("total", ["rent", "food"]) is what one would write.
        terms = tuple((term, 1.0) if isinstance(term, str) else (term[0], float(term[1])) for term in self.terms)
        object.__setattr__(self, "terms", terms)
        names = [name for name, _ in terms]
        if not terms or self.total in names or len(set(names)) < len(names):
            raise DataError(f"Sum of {self.total!r}: expected each column once, found {[self.total, *names]}.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The total and its parts."""
        return (self.total, *(name for name, _ in self.terms))

    @property
    def is_whole(self) -> bool:
        """Whether parts of some resolution have sums of the same."""
        return all(number == round(number) for number in (self.constant, *(factor for _, factor in self.terms)))

    def of_parts(self, table: pa.Table) -> Floats:
        """The sum of the parts, NaN where one is missing."""
        return linear(table, self.terms) + self.constant

    def measured(self, table: pa.Table) -> Sum:
        """The same sum with the digits that the columns of a table have."""
        return replace(self, digits=self._digits(table))

    def _digits(self, table: pa.Table) -> tuple[int | None, ...]:
        return tuple(digits_of(numbers(table, name), cells(table, name).type) for name in self.columns)

    def tolerance(self, table: pa.Table) -> Floats:
        """By how much the total of each row may be off, which is what adding up and writing down may cost."""
        kind = cells(table, self.total).type
        relative = _ROUNDING if not pa.types.is_floating(kind) or kind.bit_width == 64 else 1e-6
        size = linear(table, tuple((name, abs(factor)) for name, factor in self.terms), magnitudes=True)
        allowed = self.within + relative * (size + abs(self.constant))
        digits = self.digits if self.digits is not None else self._digits(table)
        own, parts = digits[0], digits[1:]
        if own is None or (self.is_whole and all(digits is not None and digits <= own for digits in parts)):
            return allowed
        return allowed + 0.5 * 10.0**-own

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far the total is from the sum, less what it may be."""
        off, allowed = np.abs(numbers(table, self.total) - self.of_parts(table)), self.tolerance(table)
        return _excess(off - allowed, off <= allowed, np.isnan(off), holes)

    def __str__(self) -> str:
        within = f" within {_render_number(self.within)}" if self.within else ""
        return f"{render_name(self.total)} = {_render_terms(self.terms, self.constant)}{within}"


@dataclass(frozen=True)
class Ordered:
    """A column is at most another, ``start <= end``: numbers, dates or times.

    Attributes:
        low: the column that is less.
        high: the other.
        strict: whether it must be less and not equal.
    """

    low: str
    high: str
    strict: bool = False

    def __post_init__(self) -> None:
        if self.low == self.high:
            raise DataError(f"Ordered: expected two columns, found {self.low!r} twice.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return self.low, self.high

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far the lesser one is above the other, in its own unit."""
        low, high = on_one_axis(table, self.low, self.high)
        if arrow.is_number(low.type):
            x, y = numbers(table, self.low), numbers(table, self.high)
            missing = np.isnan(x) | np.isnan(y)
        else:
            (x, no_low), (y, no_high) = ticks(low), ticks(high)
            missing = no_low | no_high
        return _excess((x - y).astype(np.float64), (x < y) if self.strict else (x <= y), missing, holes)

    def __str__(self) -> str:
        return f"{render_name(self.low)} {'<' if self.strict else '<='} {render_name(self.high)}"


@dataclass(frozen=True)
class Bound:
    """A weighted sum of columns stays on one side of a number: ``rent + food <= 2000``.

    Attributes:
        terms: columns with their coefficients.
        relation: one of ``<``, ``<=``, ``>``, ``>=``.
        constant: the number.
    """

    terms: Terms
    relation: Relation
    constant: float

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of its terms."""
        return tuple(name for name, _ in self.terms)

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far the sum is on the wrong side."""
        value = linear(table, self.terms)
        over = (value - self.constant) * (1.0 if self.relation[0] == "<" else -1.0)
        return _excess(over, _COMPARE[self.relation](value, self.constant), np.isnan(value), holes)

    def __str__(self) -> str:
        return f"{_render_terms(self.terms, 0.0)} {self.relation} {_render_number(self.constant)}"


@dataclass(frozen=True, eq=False)
class Where:
    """Conditions on single columns, as of `--where`: ``age >= 65 and sex = 'F'``.

    Attributes:
        conditions: by column.
    """

    conditions: Mapping[str, Condition]

    @property
    def columns(self) -> tuple[str, ...]:
        """Those with a condition."""
        return tuple(self.conditions)

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far the worst cell is outside of its condition: of bounds on numbers in their unit, else half, signed."""
        worst = np.full(table.num_rows, -np.inf)
        for name, condition in self.conditions.items():
            array = cells(table, name)
            met = holds(name, array, condition)
            unknown = arrow.is_missing(array) & ~met
            let_off = holes and not isinstance(condition, Missing | NotMissing)  # of these nothing is unknown
            worst = np.maximum(worst, _excess(_distance(array, condition, met), met, unknown, let_off))
        return worst

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where) and dict(self.conditions) == dict(other.conditions)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return render(self.conditions)


@dataclass(frozen=True, eq=False)
class IfThen:
    """Rows that meet some conditions meet others: ``if sex = 'F' then beard = 'no'``.

    Attributes:
        premise: conditions by column.
        conclusion: conditions by column.
    """

    premise: Mapping[str, Condition]
    conclusion: Mapping[str, Condition]

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of both sides."""
        return tuple(dict.fromkeys((*self.premise, *self.conclusion)))

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """How far the conclusion is from holding where the premise holds; NaN where a missing cell decides."""
        premise, missed = all_hold(table, self.premise), Where(self.conclusion).excess(table, holes=holes)
        # A premise that fails keeps the rule whatever the conclusion, and a conclusion that holds whatever the premise.
        over = np.where(premise, missed, np.fmin(missed, -_HALF))
        open_premise = ~premise & all_hold(table, self.premise, holes=True)
        return np.where(open_premise & ~(missed <= 0), 0.0 if holes else np.nan, over)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IfThen) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"if {render(self.premise)} then {render(self.conclusion)}"


@dataclass(frozen=True)
class Linked:
    """Columns whose values occur together only as they did in training: ``city determines country``.

    Attributes:
        columns: all of them.
        determined: those that follow from the others: no two rows agree on the others and differ here.
    """

    columns: tuple[str, ...]
    determined: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "determined", tuple(self.determined))
        unknown = set(self.determined) - set(self.columns)
        if len(set(self.columns)) < max(2, len(self.columns)) or unknown or set(self.determined) == set(self.columns):
            raise DataError(f"Linked: expected two or more columns, each once, found {list(self.columns)}.")

    def excess(self, table: pa.Table, *, holes: bool) -> Floats:
        """Nothing can be said without the rows of training."""
        raise DataError(
            f"The rule {str(self)!r} speaks of what occurred in training: fit the model with it, constraints=[...]."
        )

    def __str__(self) -> str:
        if not self.determined:
            return f"linked({', '.join(map(render_name, self.columns))})"
        sources = (name for name in self.columns if name not in self.determined)
        sides = (", ".join(map(render_name, side)) for side in (sources, self.determined))
        return " determines ".join(sides)


def linear(table: pa.Table, terms: Terms, *, magnitudes: bool = False) -> Floats:
    """The weighted sum of columns, or of their magnitudes; NaN where one is missing."""
    total = np.zeros(table.num_rows)
    for name, factor in terms:
        values = numbers(table, name)
        total += factor * (np.abs(values) if magnitudes else values)
    return total


def missing_cells(rule: Rule, table: pa.Table) -> Mask:
    """Which rows miss a cell that a rule speaks of."""
    return any_missing(table, rule.columns)


def _excess(over: Floats, met: Mask, missing: Mask, let_off: bool) -> Floats:
    """Amounts over a bound, with the right sign where a row is just on it."""
    signed = np.where(met, np.minimum(over, 0.0), np.maximum(over, _LEAST))
    return np.where(missing, 0.0 if let_off else np.nan, signed)


def _distance(array: pa.Array, condition: Condition, met: Mask) -> Floats:
    """How far numbers are outside of an interval; for whatever else half, with the sign of whether it is met."""
    low, high = getattr(condition, "low", None), getattr(condition, "high", None)
    ends = [end for end in (low, high) if end is not None]
    numeric = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if not ends or not numeric or not arrow.is_number(array.type):
        return np.where(met, -_HALF, _HALF)
    x = np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    below = np.full(len(x), -np.inf) if low is None else low - x
    return np.maximum(below, -np.inf if high is None else x - high)


def _render_terms(terms: Terms, constant: float) -> str:
    text = ""
    parts = [(factor, render_name(name)) for name, factor in terms]
    parts += [(constant, "")] if constant or not terms else []
    for factor, name in parts:
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        size = _render_number(abs(factor))
        text += sign + (size if not name else name if size == "1" else f"{size} * {name}")
    return text


def _render_number(value: float) -> str:
    """A number as it is read back, to the last bit, and as short as that allows."""
    return repr(float(value)).removesuffix(".0")
