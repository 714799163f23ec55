"""The rules of a table, by construction where that is possible: a change of columns before they are coded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clarkia.codecs.conditions import Condition, Equal, OneOf, intersect
from clarkia.codecs.constraints.cells import Mask, check_columns
from clarkia.codecs.constraints.linked import LinkStep
from clarkia.codecs.constraints.rules import Linked, Ordered, Rule, Sum, Where, kept
from clarkia.codecs.constraints.steps import OrderStep, Step, SumStep
from clarkia.codecs.table import arrow
from clarkia.errors import DataError


@dataclass(frozen=True, eq=False)
class RuleEncoding:
    """An invertible change of a table's columns under which its rules hold.

    Sums leave their total out, orders keep a distance instead of the greater column, linked columns become one column
    of the combinations that occurred. What cannot be built in, such as if-then, is `standing`: samples that break it
    must be drawn again.

    Attributes:
        schema: of the tables.
        steps: the changes, in the order in which they are made.
        standing: rules that are left.
    """

    schema: pa.Schema
    steps: tuple[Step, ...] = ()
    standing: tuple[Rule, ...] = ()

    @classmethod
    def fit(cls, table: pa.Table, rules: Sequence[Rule]) -> RuleEncoding:
        """Of a table that keeps all rules; an empty cell breaks none.

        Args:
            table: the rows.
            rules: as of `parse_rule`.

        Raises:
            DataError: an unknown column, a rule that rows break (with the first one and their number), rules that
                contradict each other's order, or a row with too many holes for a rule.
        """
        for rule in rules:
            check_columns(rule.columns, table.column_names, rule)
            if not isinstance(rule, Linked):
                _check_kept(rule, table)
        built = _in_order(_buildable(rules))
        steps: list[Step] = []
        changed = table
        for rule in built:
            step = _step(rule, changed)
            if step.added is not None and step.added in changed.column_names:
                raise DataError(f"The rule {str(rule)!r} needs the name {step.added!r} for itself; rename that column.")
            steps.append(step)
            changed = step.forward(step.implied(changed))
        standing = tuple(rule for rule in rules if not any(rule is step.rule for step in steps))
        return cls(table.schema, tuple(steps), standing)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All of them."""
        return (*(step.rule for step in self.steps), *self.standing)

    @property
    def hidden(self) -> frozenset[str]:
        """Columns of the tables that are not coded themselves."""
        return frozenset(name for step in self.steps for name in step.removed)

    def roles(self, roles: Mapping[str, str]) -> dict[str, str]:
        """Declared roles of the changed columns."""
        own = {name: role for name, role in roles.items() if name not in self.hidden}
        return own | {step.added: "categorical" for step in self.steps if isinstance(step, LinkStep)}

    def forward(self, table: pa.Table) -> pa.Table:
        """The changed columns of a table whose rows keep the rules; what they imply is filled in.

        Raises:
            DataError: a row breaks a rule, or has too many holes for one; the message names it.
        """
        if not self.steps:
            return table
        self.check(table)
        for step in self.steps:
            table = step.forward(step.implied(table))
        return table

    def with_holes(self, table: pa.Table) -> tuple[pa.Table, dict[str, Mask]]:
        """The changed columns of a table whose empty cells are to be filled.

        Returns:
            The table, in which a combination that is not known is empty; and for such columns which combinations, in
            the order of `LinkStep.labels`, each row allows.

        Raises:
            DataError: as of `forward`.
        """
        if not self.steps:
            return table, {}
        table = self._with_all_columns(table)
        self.check(table)
        allowed: dict[str, Mask] = {}
        for step in self.steps:
            table = step.implied(table)
            if isinstance(step, LinkStep):
                fits = allowed[step.added] = step.allowed(table)
                known = pa.array(np.where(fits.sum(1) == 1, fits.argmax(1), -1))
                label = step.labels.take(pa.array(np.maximum(known.to_numpy(), 0)))
                label = pa.array(label.to_pylist(), label.type, mask=known.to_numpy() < 0)
                table = table.drop_columns(list(step.removed)).append_column(step.added, label)
            else:
                table = step.forward(table)
        return table, allowed

    def backward(self, table: pa.Table) -> pa.Table:
        """Tables of the original columns, in their order and types."""
        if not self.steps:
            return table
        for step in reversed(self.steps):
            table = step.backward(table)
        table = table.select([name for name in self.schema.names if name in table.column_names])
        fields = [self.schema.field(name) for name in table.column_names]
        pairs = zip(table.columns, fields, strict=True)
        columns = [arrow.one_chunk(column).cast(field.type) for column, field in pairs]
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, self.schema.metadata))

    def without(self, dropped: Sequence[str]) -> RuleEncoding:
        """The encoding of tables without some columns, which no rule speaks of."""
        fields = [field for field in self.schema if field.name not in dropped]
        return RuleEncoding(pa.schema(fields, self.schema.metadata), self.steps, self.standing)

    def check(self, table: pa.Table) -> None:
        """Raise `DataError` for the first row that breaks a rule; what a linked column may hold is checked later."""
        for rule in self.rules:
            if not isinstance(rule, Linked):
                _check_kept(rule, table)

    def breaks(self, table: pa.Table) -> Mask:
        """Which rows break a rule, ``(n,)``; an empty cell breaks none."""
        broken = np.zeros(table.num_rows, bool)
        for rule in self.rules:
            if not isinstance(rule, Linked):
                broken |= ~kept(rule, table, holes=True)
        for step in self.steps:
            if isinstance(step, LinkStep):
                broken |= ~step.keeps(table)
        return broken

    def translate(self, conditions: Mapping[str, Condition]) -> tuple[dict[str, Condition], list[Rule]]:
        """Conditions on columns of the tables as conditions on changed columns, and rules for the rest.

        Raises:
            DataError: no combination of linked columns meets them.
        """
        native = {name: condition for name, condition in conditions.items() if name not in self.hidden}
        rest = {name: condition for name, condition in conditions.items() if name in self.hidden}
        for step in self.steps:
            own = {name: rest.pop(name) for name in step.removed if name in rest} if isinstance(step, LinkStep) else {}
            if own and isinstance(step, LinkStep):
                labels = step.names(own)
                if not labels:
                    raise DataError(f"No row meets {str(Where(own))!r}: training had no such values together.")
                met: Condition = Equal(labels[0]) if len(labels) == 1 else OneOf(labels)
                native[step.added] = intersect(step.added, native[step.added], met) if step.added in native else met
        return native, [Where({name: condition}) for name, condition in rest.items()]

    def _with_all_columns(self, table: pa.Table) -> pa.Table:
        """The table with empty columns for those that rules speak of and that are absent."""
        for name in dict.fromkeys(name for rule in self.rules for name in rule.columns):
            if name not in table.column_names:
                field = self.schema.field(name)
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table


def _check_kept(rule: Rule, table: pa.Table) -> None:
    broken = np.flatnonzero(~kept(rule, table, holes=True))
    if len(broken):
        row = int(broken[0])
        held = ", ".join(f"{name} = {table.column(name)[row].as_py()}" for name in rule.columns)
        count = f"{len(broken):,} of {table.num_rows:,} rows" if len(broken) > 1 else "one row"
        raise DataError(
            f"The rule {str(rule)!r} is broken in {count}, first in row {row + 1} ({held}); correct or drop "
            f"{'them' if len(broken) > 1 else 'it'}, or do without the rule."
        )


def _buildable(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that can be built in, where each column is made by one of them at the most."""
    made: set[str] = set()
    found: list[Rule] = []
    for rule in rules:
        makes = _makes(rule)
        if makes and not made & set(makes):
            made |= set(makes)
            found.append(rule)
    return found


def _makes(rule: Rule) -> tuple[str, ...]:
    if isinstance(rule, Sum):
        return () if rule.within else (rule.total,)
    if isinstance(rule, Ordered):
        return (rule.high,)
    return rule.columns if isinstance(rule, Linked) else ()


def _needs(rule: Rule) -> tuple[str, ...]:
    return () if isinstance(rule, Linked) else tuple(name for name in rule.columns if name not in _makes(rule))


def _in_order(rules: list[Rule]) -> list[Rule]:
    """The rules in an order in which each finds its columns: one that needs a column before the one that makes it.

    Raises:
        DataError: two rules need each other's.
    """
    left, ordered = list(rules), []
    while left:
        free = [rule for rule in left if not any(set(_makes(rule)) & set(_needs(other)) for other in left)]
        if not free:
            raise DataError(
                f"The rules {' and '.join(repr(str(rule)) for rule in left)} follow from each other; leave one out."
            )
        ordered.append(free[0])
        left.remove(free[0])
    return ordered


def _step(rule: Rule, table: pa.Table) -> Step:
    if isinstance(rule, Sum):
        return SumStep.fit(rule, table)
    return OrderStep.fit(rule, table) if isinstance(rule, Ordered) else LinkStep.fit(rule, table)  # type: ignore[arg-type]
