"""Rules as people write them: ``total = rent + food``, ``start <= end``, ``if sex = 'F' then beard = 'no'``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from clarkia.codecs.conditions import NAME, Between, Equal, parse
from clarkia.codecs.constraints.rules import Bound, IfThen, Linked, Ordered, Relation, Rule, Sum, Terms, Where
from clarkia.errors import DataError

_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
_WORD = re.compile(rf"{_QUOTED}|(?P<word>{NAME})")
_IF = re.compile(r"\s*if(?![\w.-])", re.IGNORECASE)
_TOKEN = re.compile(
    r"""\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<number>(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?)"""
    rf"""|(?P<name>{NAME})|(?P<sign><=|>=|==|[=<>+*(),-]))"""
)
_OF_CONDITIONS = {"between", "in", "is", "and", "true", "false"}
_MIRRORED: dict[str, Relation] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Side(NamedTuple):
    terms: dict[str, float]
    constant: float


def parse_rule(text: str) -> Rule:
    """Read one rule.

    A column is a word or stands in double quotes; a text or a point in time stands in single quotes. A minus between
    columns stands between spaces, since names may hold one.

    ====================================================  ==========================================================
    ``total = rent + 0.5 * food - 3``                     a sum, up to rounding; ``... within 5``, or up to 5 more
    ``start <= end``, ``rent < income``                   an order, of numbers, dates or times
    ``rent + food <= 2000``, ``spend > 100``              a bound
    ``age between 30 and 40``, ``date >= '2024-03-01'``   conditions, as of `where`
    ``if sex = 'F' and age < 12 then job is missing``     conditions that follow from others
    ``city determines country``                           columns that follow from others
    ``linked(make, model)``                               values that occur together only as they did in training
    ====================================================  ==========================================================

    Raises:
        DataError: the text is no such rule; the message says where.
    """
    words = {match.group("word").lower(): match for match in _WORD.finditer(text) if match.group("word")}
    if begin := _IF.match(text):
        if "then" not in words:
            raise DataError(f"Rule {text!r}: 'then' should follow the conditions after 'if'.")
        middle = words["then"]
        return IfThen(parse(text[begin.end() : middle.start()]), parse(text[middle.end() :]))
    if "determines" in words:
        middle = words["determines"]
        sources, determined = _names(text, 0, middle.start()), _names(text, middle.end(), len(text))
        return Linked((*sources, *determined), determined)
    if linked := re.fullmatch(r"\s*linked\s*\((.*)\)\s*", text, re.IGNORECASE | re.DOTALL):
        return Linked(_names(text, linked.start(1), linked.end(1)))
    if "'" in re.sub(r'"(?:[^"]|"")*"', "", text) or _OF_CONDITIONS & set(words):
        return Where(parse(text))
    return _relation(text)


def parse_rules(rules: Any) -> tuple[Any, ...]:
    """Rules that may be texts, each read with `parse_rule`; whatever is no text is passed on.

    Raises:
        DataError: a text is no rule, or there is a single text instead of a list.
    """
    if rules is None:
        return ()
    if isinstance(rules, str) or not isinstance(rules, list | tuple):
        raise DataError(f"constraints: expected a list of rules, such as ['start <= end'], found {rules!r}.")
    return tuple(parse_rule(rule) if isinstance(rule, str) else rule for rule in rules)


def _relation(text: str) -> Rule:
    """A sum, an order or a bound."""
    tokens = list(_tokens(text, 0, len(text)))
    places = [place for place, token in enumerate(tokens) if _is_sign(token, "=", "==", "<", "<=", ">", ">=")]
    if len(places) != 1:
        where = tokens[places[1]].position if places else len(text.rstrip())
        raise _wrong(text, where, "one relation such as '=' or '<=' should stand between two sides")
    sign, within = tokens[places[0]].text.replace("==", "="), 0.0
    left, right = tokens[: places[0]], tokens[places[0] + 1 :]
    if len(right) > 2 and _is_name(right[-2], "within") and right[-1].kind == "number":
        within, right = _number(text, right[-1]), right[:-2]
    ends = tokens[places[0]].position, len(text.rstrip())
    first, second = _side(text, left, ends[0]), _side(text, right, ends[1])
    if sign == "=" and len({**first.terms, **second.terms}) > 1:
        return _sum(text, first, second, within)
    if within:
        raise _wrong(text, right[-1].position, "'within' belongs to a sum of columns")
    return _bound(text, first, second, sign)


def _sum(text: str, first: _Side, second: _Side, within: float) -> Sum:
    """The sum solved for the side that is a single column, or else for the last column that has a coefficient of 1."""
    for total, parts in ((first, second), (second, first)):
        name = next(iter(total.terms), "")
        if list(total.terms.values()) == [1.0] and not total.constant and name not in parts.terms:
            return Sum(name, tuple(parts.terms.items()), parts.constant, within)
    moved = _difference(first, second)
    alone = [name for name, factor in moved.terms.items() if abs(factor) == 1]
    if not alone:
        raise DataError(f"Rule {text!r}: a column should stand alone on one side of a sum.")
    factor = -moved.terms[alone[-1]]
    terms = tuple((name, value / factor) for name, value in moved.terms.items() if name != alone[-1])
    return Sum(alone[-1], terms, moved.constant / factor, within)


def _bound(text: str, first: _Side, second: _Side, sign: str) -> Rule:
    moved = _difference(first, second)
    terms, limit = moved.terms, 0.0 - moved.constant
    if not terms:
        raise DataError(f"Rule {text!r}: it speaks of no column.")
    if len(terms) == 1 and sign == "=":
        name, factor = next(iter(terms.items()))
        return Where({name: Equal(_plain(limit / factor))})
    relation: Relation = sign  # type: ignore[assignment]  # an equality of several columns is a sum
    if sorted(terms.values()) == [-1.0, 1.0] and not limit:
        low, high = sorted(terms, key=lambda name: -terms[name])
        low, high = (low, high) if sign[0] == "<" else (high, low)
        return Ordered(low, high, strict=len(sign) == 1)
    if len(terms) > 1 or abs(next(iter(terms.values()))) != 1:
        return Bound(tuple(terms.items()), relation, limit)
    name, factor = next(iter(terms.items()))
    relation, value = (relation, limit) if factor > 0 else (_MIRRORED[relation], -limit)
    is_open, value = len(relation) == 1, _plain(value)
    if relation[0] == "<":
        return Where({name: Between(None, value, high_open=is_open)})
    return Where({name: Between(value, None, low_open=is_open)})


def _difference(first: _Side, second: _Side) -> _Side:
    terms = dict(first.terms)
    for name, factor in second.terms.items():
        terms[name] = terms.get(name, 0.0) - factor
    return _Side({name: factor for name, factor in terms.items() if factor}, first.constant - second.constant)


def parse_terms(text: str) -> tuple[Terms, float]:
    """Read a weighted sum of columns, such as ``income - 0.5 * rent + 3``.

    Returns:
        The columns with their coefficients, and the constant.

    Raises:
        DataError: the text is no such sum; the message says where.
    """
    side = _side(text, list(_tokens(text, 0, len(text))), len(text.rstrip()))
    return tuple(side.terms.items()), side.constant


def _side(text: str, tokens: list[_Token], end: int) -> _Side:
    """A sum of terms ``number * column``, each a column, a number, or both."""
    terms: dict[str, float] = {}
    constant, index = 0.0, 0
    while index < len(tokens) or not index:
        sign = 1.0
        if index < len(tokens) and _is_sign(tokens[index], "+", "-"):
            sign, index = (-1.0 if tokens[index].text == "-" else 1.0), index + 1
        elif index:
            raise _wrong(text, tokens[index].position, "'+' or '-' should stand here, with spaces around it")
        name, factor, index = _term(text, tokens, index, end)
        if name is None:
            constant += sign * factor
        else:
            terms[name] = terms.get(name, 0.0) + sign * factor
    return _Side(terms, constant)


def _term(text: str, tokens: list[_Token], index: int, end: int) -> tuple[str | None, float, int]:
    name, factor = None, None
    while True:
        position = tokens[index].position if index < len(tokens) else end
        token = tokens[index] if index < len(tokens) else _Token("end", "", end)
        if token.kind == "number" and factor is None:
            factor = _number(text, token)
        elif token.kind in ("name", "quoted") and name is None:
            name = token.text
        else:
            raise _wrong(text, position, "a column or a number should stand here")
        index += 1
        if index < len(tokens) and _is_sign(tokens[index], "*"):
            index += 1
        elif not (token.kind == "number" and index < len(tokens) and tokens[index].kind in ("name", "quoted")):
            return name, 1.0 if factor is None else factor, index


def _tokens(text: str, start: int, end: int) -> Iterator[_Token]:
    position, end = start, start + len(text[start:end].rstrip())
    while position < end:
        match = _TOKEN.match(text, position, end)
        if match is None:
            raise _wrong(text, position, "cannot be read; texts stand in single quotes")
        kind = next(name for name in ("quoted", "number", "name", "sign") if match.group(name) is not None)
        found = match.group(kind).replace('""', '"') if kind == "quoted" else match.group(kind)
        yield _Token(kind, found, match.start(kind))
        position = match.end()


def _names(text: str, start: int, end: int) -> tuple[str, ...]:
    """Columns with commas between them."""
    tokens = list(_tokens(text, start, end))
    for place, token in enumerate(tokens):
        fits = token.kind in ("name", "quoted") if place % 2 == 0 else _is_sign(token, ",")
        if not fits:
            raise _wrong(text, token.position, "columns should stand here, with commas between them")
    if len(tokens) % 2 == 0:
        raise _wrong(text, end, "a column should stand here")
    return tuple(token.text for token in tokens[::2])


def _is_sign(token: _Token, *signs: str) -> bool:
    return token.kind == "sign" and token.text in signs


def _is_name(token: _Token, name: str) -> bool:
    return token.kind == "name" and token.text.lower() == name


def _number(text: str, token: _Token) -> float:
    value = float(token.text)
    if not math.isfinite(value):
        raise _wrong(text, token.position, "the number is too large")
    return value


def _plain(value: float) -> int | float:
    """A whole number as an int, so that it compares with columns of any kind of number."""
    return int(value) if value == round(value) and abs(value) < 2**53 else value


def _wrong(text: str, position: int, complaint: str) -> DataError:
    found = f"at {text[position : position + 20]!r}" if position < len(text.rstrip()) else "at the end"
    return DataError(f"Rule {text!r}, position {position + 1} ({found}): {complaint}.")
