"""Columns whose values occur together: one category of the combinations that training had."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clarkia.codecs.conditions import Condition
from clarkia.codecs.constraints.cells import Mask, all_hold, cells
from clarkia.codecs.constraints.rules import Linked
from clarkia.codecs.table import arrow
from clarkia.errors import DataError

Codes = NDArray[np.int64]

_TOGETHER = 4096
"""Rows that are held against all combinations together."""


@dataclass(frozen=True, eq=False)
class LinkStep:
    """The columns become one, of their combinations.

    Attributes:
        rules: which columns; several rules that share some are one step.
        combinations: of all columns, each once, the most frequent first; an empty cell is a value like others.
    """

    rules: tuple[Linked, ...]
    combinations: pa.Table
    needed: tuple[str, ...] = ()

    @classmethod
    def fit(cls, rules: Sequence[Linked], table: pa.Table) -> LinkStep:
        """Of the rows of training.

        Raises:
            DataError: a column does not follow from the others; the message names two rows.
        """
        part = _plain(table.select(linked_columns(rules)))
        codes = {name: _codes(name, cells(part, name), cells(part, name)) for name in part.column_names}
        for rule in rules:
            _check_determined(rule, codes)
        _, first, counts = np.unique(np.stack([*codes.values()], 1), axis=0, return_index=True, return_counts=True)
        order = np.lexsort((first, -counts))
        return cls(tuple(rules), part.take(pa.array(first[order])))

    @property
    def removed(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(linked_columns(self.rules))

    @property
    def added(self) -> str:
        """Their combination."""
        return " & ".join(self.removed)

    @cached_property
    def labels(self) -> pa.Array:
        """What the combinations are called."""
        rows = zip(*(self.combinations.column(name).to_pylist() for name in self.removed), strict=True)
        texts = [", ".join("missing" if cell is None else str(cell) for cell in row) for row in rows]
        if len(set(texts)) < len(texts):
            texts = [f"{number}: {text}" for number, text in enumerate(texts)]
        return pa.array(texts, pa.large_string())

    def implied(self, table: pa.Table) -> pa.Table:
        """The table as it is: see `allowed`."""
        return table

    def forward(self, table: pa.Table) -> pa.Table:
        """The table with the name of the combination in place of the columns.

        Raises:
            DataError: a combination that training did not have; the message names the row.
        """
        found = self.numbers(table)
        bad = np.flatnonzero(found < 0)
        if len(bad):
            raise DataError(self._never(table, int(bad[0])))
        column = self.labels.take(pa.array(found))
        return table.drop_columns(list(self.removed)).append_column(self.added, column)

    def backward(self, table: pa.Table) -> pa.Table:
        """The columns of the combinations."""
        rows = self.combinations.take(pc.index_in(cells(table, self.added), self.labels))
        for name in self.removed:
            table = table.append_column(name, rows.column(name))
        return table.drop_columns([self.added])

    def keeps(self, table: pa.Table) -> Mask:
        """Which rows hold a combination that training had."""
        return self.numbers(table) >= 0

    def with_holes(self, table: pa.Table) -> tuple[pa.Table, pa.Table]:
        """What rows are told of their combination, empty cells to be filled.

        Returns:
            The table with the name of the combination in place of the columns, empty where several go with a row; and
            the columns themselves, as `allowed` takes them.

        Raises:
            DataError: a row with which none goes, or a cell of another type; the message names it.
        """
        kinds = {name: self.combinations.schema.field(name).type for name in self.removed}
        held = pa.table({name: arrow.convert(name, cells(table, name), kind) for name, kind in kinds.items()})
        only = np.full(table.num_rows, -1)
        for first in range(0, table.num_rows, _TOGETHER):
            fits = self.allowed(held.slice(first, _TOGETHER))
            bad = np.flatnonzero(~fits.any(1))
            if len(bad):
                raise DataError(self._never(held, first + int(bad[0])))
            only[first : first + len(fits)] = np.where(fits.sum(1) == 1, fits.argmax(1), -1)
        column = self.labels.take(pa.array(only, mask=only < 0))
        return table.drop_columns(list(self.removed)).append_column(self.added, column), held

    def allowed(self, held: pa.Table) -> Mask:
        """Which combinations go with what each row holds of the columns, ``(n, combinations)``."""
        fits = np.ones((held.num_rows, self.combinations.num_rows), bool)
        whole = fits.copy()
        for name in self.removed:
            own, known = cells(held, name), cells(self.combinations, name)
            empty = arrow.is_missing(own)[:, None]
            fits &= empty | (_codes(name, own, known)[:, None] == _codes(name, known, known)[None])
            whole &= ~empty | ~arrow.is_missing(known)[None]
        # An empty cell is to be filled, so with a value, unless training never had one there.
        whole &= fits
        return np.where(whole.any(1, keepdims=True), whole, fits)

    def names(self, conditions: Mapping[str, Condition]) -> tuple[str, ...]:
        """The combinations that meet conditions on the columns."""
        return tuple(self.labels.filter(pa.array(all_hold(self.combinations, conditions))).to_pylist())

    def numbers(self, table: pa.Table) -> Codes:
        """The number of each row's combination, -1 where training had none, ``(n,)``."""
        among = {name: cells(self.combinations, name) for name in self.removed}
        known = np.stack([_codes(name, values, values) for name, values in among.items()], 1)
        rows = np.stack([_codes(name, cells(table, name), values) for name, values in among.items()], 1)
        _, inverse = np.unique(np.concatenate([known, rows]), axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        number = np.full(int(inverse.max(initial=0)) + 1, -1)
        number[inverse[: len(known)]] = np.arange(len(known))
        return number[inverse[len(known) :]]

    def _never(self, table: pa.Table, row: int) -> str:
        held = ", ".join(f"{name} = {cells(table, name)[row].as_py()!r}" for name in self.removed)
        return f"Row {row + 1}: {held} did not occur together in training, against {_named(self.rules)}."


def linked_columns(rules: Sequence[Linked]) -> list[str]:
    """All columns of some rules, each once."""
    return list(dict.fromkeys(name for rule in rules for name in rule.columns))


def _named(rules: Sequence[Linked]) -> str:
    return f"the rule{'s' if len(rules) > 1 else ''} {' and '.join(repr(str(rule)) for rule in rules)}"


def _codes(name: str, array: pa.Array, known: pa.Array) -> Codes:
    """Where each cell of a column first stands among known ones, -1 where it does not; missing cells are alike.

    Raises:
        DataError: a cell of another type.
    """
    kind = known.type
    array = arrow.convert(name, array, kind)
    array, known = (
        pc.if_else(pa.array(arrow.is_missing(part)), pa.scalar(None, kind), part) for part in (array, known)
    )
    return np.asarray(pc.fill_null(pc.index_in(array, known.unique()), -1).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, in one piece."""
    return pa.table({name: cells(table, name) for name in table.column_names})


def _check_determined(rule: Linked, codes: Mapping[str, Codes]) -> None:
    """Raise `DataError` where two combinations agree on the columns that should determine the others."""
    if not rule.determined:
        return
    sources = [name for name in rule.columns if name not in rule.determined]
    _, first = np.unique(np.stack([codes[name] for name in rule.columns], 1), axis=0, return_index=True)
    known = np.stack([codes[name][first] for name in sources], 1)
    _, group, sizes = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes[group.reshape(-1)] > 1)
    if len(several):
        same = np.flatnonzero(group.reshape(-1) == group.reshape(-1)[several[0]])
        rows = sorted(int(first[place]) for place in same)[:2]
        raise DataError(
            f"The rule {str(rule)!r} is broken: rows {rows[0] + 1} and {rows[1] + 1} agree on "
            f"{', '.join(map(repr, sources))} and not on {', '.join(map(repr, rule.determined))}; correct them, or use "
            f"{str(Linked(rule.columns))!r}."
        )
