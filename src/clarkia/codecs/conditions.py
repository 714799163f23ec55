"""Conditions on the columns of a table: what they are, how they are written, how they combine."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from clarkia.errors import DataError

Value: TypeAlias = (
    bool | int | float | str | decimal.Decimal | datetime.date | datetime.datetime | datetime.time | datetime.timedelta
)


@dataclass(frozen=True)
class Equal:
    """The cell holds this value."""

    value: Value

    def __post_init__(self) -> None:
        _check_value(self.value)


@dataclass(frozen=True)
class Between:
    """The cell lies in an interval; a bound that is None is no bound.

    Attributes:
        low: lower bound.
        high: upper bound.
        low_open: whether the lower bound itself is excluded.
        high_open: whether the upper bound itself is excluded.
    """

    low: Value | None = None
    high: Value | None = None
    low_open: bool = False
    high_open: bool = False

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise DataError("Between needs a lower or an upper bound; use NotMissing() for any value.")
        for bound in (self.low, self.high):
            if bound is not None:
                _check_value(bound)


@dataclass(frozen=True)
class OneOf:
    """The cell holds one of these values (each is kept once)."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        for value in self.values:
            _check_value(value)
        object.__setattr__(self, "values", tuple(dict.fromkeys(self.values)))
        if not self.values:
            raise DataError("OneOf needs at least one value.")


@dataclass(frozen=True)
class Missing:
    """The cell is missing."""


@dataclass(frozen=True)
class NotMissing:
    """The cell is not missing."""


Condition: TypeAlias = Equal | Between | OneOf | Missing | NotMissing

_KEYWORDS = {"and", "between", "in", "is", "not", "missing", "null", "true", "false"}
_TOKEN = re.compile(
    r"""\s*(?:(?P<double>"(?:[^"]|"")*")|(?P<single>'(?:[^']|'')*')|(?P<operator><=|>=|==|!=|<>|[=<>(),])"""
    r"""|(?P<word>[^\s=<>!(),'"]+))""",
)
_INTEGER = re.compile(r"[+-]?\d{1,40}\Z", re.ASCII)
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?\Z|\d\d:\d\d(:\d\d(\.\d+)?)?\Z", re.ASCII)
NAME = r"[^\W\d][\w.]*(?:-[\w.]+)*"
"""The name of a column that needs no quotes, neither in conditions nor in the rules between columns."""

_PLAIN_NAME = re.compile(NAME + r"\Z")
_RESERVED = _KEYWORDS | {"if", "then", "determines", "linked", "within"}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse(text: str) -> dict[str, Condition]:
    """Read conditions such as ``income = '>50K' and age between 30 and 40 and sex in ('Male', 'Female')``.

    A column's name is a word or stands in double quotes, a value is a number, true, false, a word or stands in single
    (or double) quotes; a quote inside quotes is doubled. Relations: ``=``, ``<``, ``<=``, ``>``, ``>=``,
    ``between a and b``, ``in (a, b, ...)``, ``is missing`` and ``is not missing``. Keywords take either case.

    Args:
        text: conditions joined by ``and``.

    Returns:
        The condition of each column; several on one column are intersected.

    Raises:
        DataError: the text is no such list (with the position of the mistake), or two conditions exclude each other.
    """
    tokens = _tokens(text)
    conditions: dict[str, Condition] = {}
    index = 0
    while True:
        name, condition, index = _condition(text, tokens, index)
        conditions[name] = intersect(name, conditions[name], condition) if name in conditions else condition
        if tokens[index].kind == "end":
            return conditions
        index = _expect(text, tokens, index, "and")


def render(conditions: Mapping[str, Condition]) -> str:
    """Write conditions as text that `parse` reads back (times and decimals as quoted text)."""
    return " and ".join(_render_one(render_name(name), condition) for name, condition in conditions.items())


def intersect(name: str, first: Condition, second: Condition) -> Condition:
    """Return the condition that holds where both do.

    Args:
        name: the column, for the message.
        first: one condition.
        second: another on the same column.

    Raises:
        DataError: no cell can satisfy both, or their values are of kinds that do not compare.
    """
    if isinstance(first, NotMissing):
        return second if not isinstance(second, Missing) else _exclude(name, first, second)
    if isinstance(second, NotMissing) or first == second:
        return first if not isinstance(first, Missing) or first == second else _exclude(name, first, second)
    if isinstance(first, Missing) or isinstance(second, Missing):
        return _exclude(name, first, second)
    if isinstance(first, Between) and isinstance(second, Between):
        return _overlap(name, first, second)
    if isinstance(first, Between):
        first, second = second, first
    values = first.values if isinstance(first, OneOf) else (first.value,)  # type: ignore[union-attr]
    kept = tuple(value for value in values if _holds(name, value, second))
    if not kept:
        return _exclude(name, first, second)
    return Equal(kept[0]) if len(kept) == 1 else OneOf(kept)


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise DataError(_at(text, start, "a quote is never closed" if text[start] in "'\"" else "cannot be read"))
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind), match.start(kind)))
        position = match.end()
    tokens.append(_Token("end", "", end))
    return tokens


def _condition(text: str, tokens: list[_Token], index: int) -> tuple[str, Condition, int]:
    token = tokens[index]
    if token.kind == "double":
        name = token.text[1:-1].replace('""', '"')
    elif token.kind == "word" and token.text.lower() not in _KEYWORDS:
        name = token.text
    else:
        raise DataError(_at(text, token.position, "the name of a column should stand here"))
    relation = tokens[index + 1]
    word = relation.text.lower() if relation.kind in ("word", "operator") else ""
    index += 2
    if word in ("=", "=="):
        value, index = _value(text, tokens, index)
        return name, Equal(value), index
    if word in ("<", "<=", ">", ">="):
        value, index = _value(text, tokens, index)
        if word.startswith("<"):
            return name, Between(None, value, high_open=word == "<"), index
        return name, Between(value, None, low_open=word == ">"), index
    if word == "between":
        low, index = _value(text, tokens, index)
        high, index = _value(text, tokens, _expect(text, tokens, index, "and"))
        return name, _ordered(name, Between(low, high)), index
    if word == "in":
        values, index = _values(text, tokens, _expect(text, tokens, index, "("))
        return name, OneOf(values), index
    if word == "is":
        return name, *_missing(text, tokens, index)
    hint = (
        "'!=' is no relation here, name the values in 'in (...)'"
        if word in ("!=", "<>")
        else "a relation such as '=' should stand here"
    )
    raise DataError(_at(text, relation.position, hint))


def _value(text: str, tokens: list[_Token], index: int) -> tuple[Value, int]:
    token = tokens[index]
    if token.kind in ("single", "double"):
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote), index + 1
    word = token.text
    if token.kind != "word" or word.lower() in _KEYWORDS - {"true", "false"}:
        raise DataError(_at(text, token.position, "a value should stand here"))
    if word.lower() in ("true", "false"):
        return word.lower() == "true", index + 1
    if _INTEGER.match(word):
        return (int(word) if str(int(word)) == word else _Whole(word)), index + 1
    if _REAL.match(word):
        number = float(word)
        if not math.isfinite(number):
            raise DataError(_at(text, token.position, "the number is too large"))
        return (number if str(number) == word else _Real(word)), index + 1
    return word, index + 1


class _Spelled:
    """A number that keeps the spelling it was written in: in a column of texts 01 is not 1."""

    def __new__(cls, spelling: str) -> Any:
        """The number that a spelling stands for."""
        number = super().__new__(cls, spelling)  # type: ignore[call-arg]
        number.spelling = spelling  # type: ignore[attr-defined]
        return number

    def __repr__(self) -> str:
        """As it was written, for `str` too."""
        return self.spelling  # type: ignore[attr-defined]

    __str__ = __repr__


class _Whole(_Spelled, int):
    """Such as 01 or +7."""


class _Real(_Spelled, float):
    """Such as 1e3 or 1.50."""


def _values(text: str, tokens: list[_Token], index: int) -> tuple[tuple[Value, ...], int]:
    values = []
    while True:
        value, index = _value(text, tokens, index)
        values.append(value)
        if tokens[index].text == ")" and tokens[index].kind == "operator":
            return tuple(values), index + 1
        index = _expect(text, tokens, index, ",")


def _missing(text: str, tokens: list[_Token], index: int) -> tuple[Condition, int]:
    negated = tokens[index].kind == "word" and tokens[index].text.lower() == "not"
    index += negated
    token = tokens[index]
    if token.kind != "word" or token.text.lower() not in ("missing", "null"):
        raise DataError(_at(text, token.position, "'missing' or 'not missing' should follow 'is'"))
    return (NotMissing() if negated else Missing()), index + 1


def _expect(text: str, tokens: list[_Token], index: int, wanted: str) -> int:
    token = tokens[index]
    if token.kind not in ("word", "operator") or token.text.lower() != wanted:
        raise DataError(_at(text, token.position, f"{wanted!r} should stand here"))
    return index + 1


def _at(text: str, position: int, complaint: str) -> str:
    found = f"at {text[position : position + 20]!r}" if position < len(text.rstrip()) else "at the end"
    return f"Conditions, position {position + 1} ({found}): {complaint}."


def _check_value(value: Any) -> None:
    if not isinstance(value, Value):
        raise DataError(f"A condition compares with a number, a text, a truth value or a time, not with {value!r}.")
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        raise DataError(f"A condition compares with finite numbers, not with {value!r}.")


def render_name(name: str) -> str:
    """Write the name of a column as `parse` reads it, and rules between columns too."""
    if _PLAIN_NAME.match(name) and name.lower() not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def _render_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _render_one(name: str, condition: Condition) -> str:
    if isinstance(condition, Equal):
        return f"{name} = {_render_value(condition.value)}"
    if isinstance(condition, OneOf):
        return f"{name} in ({', '.join(map(_render_value, condition.values))})"
    if isinstance(condition, Between):
        parts = []
        if condition.low is not None:
            parts.append(f"{name} {'>' if condition.low_open else '>='} {_render_value(condition.low)}")
        if condition.high is not None:
            parts.append(f"{name} {'<' if condition.high_open else '<='} {_render_value(condition.high)}")
        return " and ".join(parts)
    return f"{name} is missing" if isinstance(condition, Missing) else f"{name} is not missing"


def _exclude(name: str, first: Condition, second: Condition) -> Condition:
    quoted = render_name(name)
    raise DataError(f"No cell satisfies both {_render_one(quoted, first)} and {_render_one(quoted, second)}.")


def _less(name: str, first: Value, second: Value) -> bool:
    """Return whether first < second, for values that compare."""
    numbers = all(isinstance(value, int | float | decimal.Decimal) for value in (first, second))
    texts = isinstance(first, str) and isinstance(second, str) and _ISO.match(first) and _ISO.match(second)
    if not (numbers or texts or (type(first) is type(second) and not isinstance(first, str))):
        raise DataError(
            f"Column {name!r}: the bounds {first!r} and {second!r} do not compare; write both the same way."
        )
    return bool(first < second)  # type: ignore[operator]


def _ordered(name: str, interval: Between) -> Between:
    """Return the interval, or raise DataError where it is empty."""
    low, high = interval.low, interval.high
    if low is not None and high is not None and low != high and not _less(name, low, high):
        raise DataError(f"Column {name!r}: nothing lies between {low!r} and {high!r}; give the lower bound first.")
    if low is not None and low == high and (interval.low_open or interval.high_open):
        raise DataError(f"Column {name!r}: nothing lies strictly between {low!r} and {high!r}.")
    return interval


def _overlap(name: str, first: Between, second: Between) -> Between:
    low, low_open = _tighter(name, (first.low, first.low_open), (second.low, second.low_open), lower=True)
    high, high_open = _tighter(name, (first.high, first.high_open), (second.high, second.high_open), lower=False)
    return _ordered(name, Between(low, high, low_open, high_open))


def _tighter(
    name: str, first: tuple[Value | None, bool], second: tuple[Value | None, bool], *, lower: bool
) -> tuple[Value | None, bool]:
    if first[0] is None or second[0] is None:
        return second if first[0] is None else first
    if first[0] == second[0]:
        return first[0], first[1] or second[1]
    return second if _less(name, first[0], second[0]) == lower else first


def _holds(name: str, value: Value, condition: Condition) -> bool:
    if isinstance(condition, Equal):
        return value == condition.value
    if isinstance(condition, OneOf):
        return value in condition.values
    if not isinstance(condition, Between):
        return not isinstance(condition, Missing)
    above = condition.low is None or (
        (value == condition.low and not condition.low_open)
        or (value != condition.low and not _less(name, value, condition.low))
    )
    below = condition.high is None or (
        (value == condition.high and not condition.high_open)
        or (value != condition.high and _less(name, value, condition.high))
    )
    return above and below
