"""A table's rules as JSON and Arrow tables, and back from data that nobody vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clarkia.codecs.constraints.cells import check_columns
from clarkia.codecs.constraints.encoding import RuleEncoding
from clarkia.codecs.constraints.grammar import parse_rule
from clarkia.codecs.constraints.linked import LinkStep, linked_columns
from clarkia.codecs.constraints.rules import Linked, Ordered, Rule, Sum
from clarkia.codecs.constraints.steps import OrderStep, Step, SumStep
from clarkia.codecs.table.category import cell_type
from clarkia.errors import DataError

SCHEMA, COMBINATIONS = "rules_schema", "combinations"
Digits = Annotated[int, Field(ge=0, le=18)] | None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SumPart(_Part):
    """`SumStep`."""

    kind: Literal["sum"] = "sum"
    rule: str
    digits: list[Digits]


class OrderPart(_Part):
    """`OrderStep`."""

    kind: Literal["order"] = "order"
    rule: str
    digits: Digits
    least: Annotated[float, Field(ge=0, le=2**62)]


class LinkPart(_Part):
    """`LinkStep`; its combinations are in a table of their own."""

    kind: Literal["link"] = "link"
    rule: str
    others: list[str] = []


class RulesPart(_Part):
    """A `RuleEncoding`."""

    format: Literal[1] = 1
    steps: list[Annotated[SumPart | OrderPart | LinkPart, Field(discriminator="kind")]]
    standing: list[str]
    digits: dict[str, Digits] = {}
    """Of the columns of sums that are standing."""


def to_files(encoding: RuleEncoding) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """An encoding as JSON values and Arrow tables by name."""
    tables = {SCHEMA: encoding.schema.empty_table()}
    parts: list[SumPart | OrderPart | LinkPart] = []
    for number, step in enumerate(encoding.steps):
        if isinstance(step, SumStep):
            parts.append(SumPart(rule=str(step.rule), digits=list(step.digits)))
        elif isinstance(step, OrderStep):
            parts.append(OrderPart(rule=str(step.rule), digits=step.digits, least=step.least))
        elif isinstance(step, LinkStep):
            first, *others = map(str, step.rules)
            parts.append(LinkPart(rule=first, others=others))
            tables[f"{COMBINATIONS}{number}"] = step.combinations
    sums = [rule for rule in encoding.standing if isinstance(rule, Sum)]
    digits = {name: digit for rule in sums for name, digit in zip(rule.columns, rule.digits or (), strict=True)}
    standing = [str(rule) for rule in encoding.standing]
    return RulesPart(steps=parts, standing=standing, digits=digits).model_dump(mode="json"), tables


def from_files(config: Any, tables: Mapping[str, pa.Table], changed: pa.Schema) -> RuleEncoding:
    """Invert `to_files`, checking everything.

    Args:
        config: JSON values from anywhere.
        tables: Arrow tables from anywhere, among others maybe.
        changed: schema of the changed tables.

    Raises:
        DataError: the parts do not make an encoding; the message says where.
    """
    try:
        part = RulesPart.model_validate(config)
        schema = tables[SCHEMA].schema
        standing = tuple(_with_digits(parse_rule(text), part.digits) for text in part.standing)
        steps = tuple(_step(one, number, schema, tables) for number, one in enumerate(part.steps))
        for rule in (*standing, *(rule for step in steps for rule in step.rules)):
            check_columns(rule.columns, schema.names, rule)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (pa.ArrowException, KeyError, TypeError, OverflowError, IndexError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from None
    names = list(schema.names)
    for step in steps:
        _require(set(step.removed) <= set(names) and set(step.needed) <= set(names), "the steps are out of order")
        names = [name for name in names if name not in step.removed] + ([step.added] if step.added else [])
    _require(sorted(names) == sorted(changed.names), "its columns are not those of the codec")
    return RuleEncoding(schema, steps, standing)


def _with_digits(rule: Rule, digits: Mapping[str, int | None]) -> Rule:
    """A sum with the digits of its columns where they are known, and any other rule as it is."""
    if isinstance(rule, Sum) and set(rule.columns) <= set(digits):
        return replace(rule, digits=tuple(digits[name] for name in rule.columns))
    return rule


def _step(part: SumPart | OrderPart | LinkPart, number: int, schema: pa.Schema, tables: Mapping[str, pa.Table]) -> Step:
    rule: Rule = parse_rule(part.rule)
    if isinstance(part, SumPart) and isinstance(rule, Sum):
        _require(len(part.digits) == len(rule.columns), f"{part.rule!r} has digits of other columns")
        return SumStep(replace(rule, digits=tuple(part.digits)), schema.field(rule.total))
    if isinstance(part, OrderPart) and isinstance(rule, Ordered):
        return OrderStep(rule, schema.field(rule.high), part.digits, part.least)
    others = [parse_rule(text) for text in part.others] if isinstance(part, LinkPart) else []
    rules = tuple(one for one in (rule, *others) if isinstance(one, Linked))
    fits = isinstance(part, LinkPart) and len(rules) == 1 + len(others)
    _require(fits, f"{part.rule!r} is no rule of the kind {part.kind}")
    combinations, names = tables[f"{COMBINATIONS}{number}"], linked_columns(rules)
    kinds = [cell_type(schema.field(name).type) for name in names]
    combinations.validate(full=True)
    fits = combinations.schema.names == names and combinations.schema.types == kinds
    _require(fits and combinations.num_rows > 0, f"{part.rule!r} has combinations of other columns")
    step = LinkStep(rules, combinations)
    once = np.array_equal(step.numbers(combinations), np.arange(combinations.num_rows))
    _require(once, f"{part.rule!r} has a combination twice")
    return step


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise _damaged(complaint)


def _damaged(complaint: str) -> DataError:
    return DataError(f"The rules are damaged or were altered ({complaint}); save the model again.")
