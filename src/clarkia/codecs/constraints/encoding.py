"""The rules of a table, by construction where that is possible: a change of columns before they are coded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from clarkia.codecs.conditions import Condition, Equal, Missing, NotMissing, OneOf, intersect
from clarkia.codecs.constraints.cells import Mask, all_hold, any_missing, cells, check_columns
from clarkia.codecs.constraints.linked import LinkStep
from clarkia.codecs.constraints.order import buildable, in_order
from clarkia.codecs.constraints.rules import IfThen, Linked, Ordered, Rule, Sum, Where, kept
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
                contradict each other, or a row with too many holes for a rule.
        """
        for rule in rules:
            check_columns(rule.columns, table.column_names, rule)
        once = [rule for place, rule in enumerate(rules) if rule not in rules[:place]]
        rules = [rule.measured(table) if isinstance(rule, Sum) else rule for rule in once]
        for rule in rules:
            if not isinstance(rule, Linked):
                _check_kept(rule, table)
        built = in_order(buildable(rules))
        steps: list[Step] = []
        changed = table
        for group in built:
            step = _step(group, changed)
            if step.added is not None and step.added in changed.column_names:
                raise DataError(
                    f"The rule {str(group[0])!r} needs the name {step.added!r} for itself; rename that column."
                )
            steps.append(step)
            changed = step.forward(step.implied(changed))
        standing = tuple(rule for rule in rules if not any(rule in group for group in built))
        return cls(table.schema, tuple(steps), standing)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All of them."""
        return (*(rule for step in self.steps for rule in step.rules), *self.standing)

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
        self.check(table)
        for step in self.steps:
            table = step.forward(step.implied(table))
        return table

    def with_holes(self, table: pa.Table) -> tuple[pa.Table, dict[str, pa.Table]]:
        """The changed columns of a table whose empty cells are to be filled.

        Returns:
            The table, in which a combination that is not known is empty; and for such columns what each row holds of
            those that are linked, from which `LinkStep.allowed` tells the combinations that go with it.

        Raises:
            DataError: as of `forward`.
        """
        if not self.rules:
            return table, {}
        table = self._with_all_columns(table)
        self.check(table, gaps=True)
        held: dict[str, pa.Table] = {}
        for step in self.steps:
            table = step.implied(table)
            if isinstance(step, LinkStep):
                table, held[step.added] = step.with_holes(table)
            else:
                table = step.forward(table)
        return table, held

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

    def check(self, table: pa.Table, *, gaps: bool = False) -> None:
        """Raise `DataError` for the first row that breaks a rule; what a linked column may hold is checked later.

        Args:
            table: the rows.
            gaps: whether empty cells will be filled, so that none need be there yet.
        """
        for rule in self.rules:
            if not isinstance(rule, Linked):
                _check_kept(rule, table, gaps=gaps)

    def breaks(self, table: pa.Table) -> Mask:
        """Which rows break a rule, ``(n,)``; an empty cell breaks none.

        Raises:
            DataError: a column that a rule speaks of is absent.
        """
        for rule in self.rules:
            check_columns(rule.columns, table.column_names, rule)
        table, broken = self._with_all_columns(table), np.zeros(table.num_rows, bool)
        for rule in self.rules:
            if not isinstance(rule, Linked):
                broken |= ~kept(rule, table, holes=True)
        for step in self.steps:
            if isinstance(step, LinkStep):
                broken |= ~step.keeps(table)
        return broken

    def breaks_standing(self, table: pa.Table) -> Mask:
        """Which rows break a rule that is not built in, ``(n,)``; an empty cell breaks none."""
        broken = np.zeros(table.num_rows, bool)
        for rule in self.standing:
            broken |= ~kept(rule, table, holes=True)
        return broken

    def leaves_open(self, table: pa.Table) -> Mask:
        """Which rows miss a cell that a rule which is not built in speaks of, ``(n,)``."""
        table = self._with_all_columns(table)
        return any_missing(table, {name for rule in self.standing for name in rule.columns})

    def emptied(self, table: pa.Table, given: pa.Table) -> pa.Table:
        """A filled table without the values in cells that rules want empty and that the given table leaves so."""
        for rule in self.standing:
            premise, conclusion = (rule.premise, rule.conclusion) if isinstance(rule, IfThen) else ({}, {})
            conclusion = rule.conditions if isinstance(rule, Where) else conclusion
            for name in (name for name, condition in conclusion.items() if isinstance(condition, Missing)):
                wanted = all_hold(table, premise)
                if name in given.column_names:
                    wanted &= arrow.is_missing(cells(given, name))
                index = table.schema.get_field_index(name)
                column = arrow.one_chunk(table.column(index)).take(pa.array(np.arange(len(wanted)), mask=wanted))
                table = table.set_column(index, table.schema.field(index), column)
        return table

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
        """The table with empty columns of the right types for those that rules speak of and that hold nothing."""
        for name in dict.fromkeys(name for rule in self.rules for name in rule.columns):
            field = self.schema.field(name)
            if name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
            elif pt.is_null(table.schema.field(name).type):
                index = table.schema.get_field_index(name)
                table = table.set_column(index, field, pa.nulls(table.num_rows, field.type))
        return table


def _check_kept(rule: Rule, table: pa.Table, *, gaps: bool = False) -> None:
    wrong = ~kept(rule, table, holes=True)
    if gaps:
        wanted = rule.conclusion if isinstance(rule, IfThen) else rule.conditions if isinstance(rule, Where) else {}
        wrong &= ~any_missing(table, [name for name, how in wanted.items() if isinstance(how, NotMissing)])
    broken = np.flatnonzero(wrong)
    if len(broken):
        row = int(broken[0])
        held = ", ".join(f"{name} = {table.column(name)[row].as_py()}" for name in rule.columns)
        count = f"{len(broken):,} of {table.num_rows:,} rows" if len(broken) > 1 else "one row"
        raise DataError(
            f"The rule {str(rule)!r} is broken in {count}, first in row {row + 1} ({held}); correct or drop "
            f"{'them' if len(broken) > 1 else 'it'}, or do without the rule."
        )


def _step(rules: tuple[Rule, ...], table: pa.Table) -> Step:
    rule = rules[0]
    if isinstance(rule, Sum):
        return SumStep.fit(rule, table)
    return OrderStep.fit(rule, table) if isinstance(rule, Ordered) else LinkStep.fit(rules, table)  # type: ignore[arg-type]
