"""Columns whose values occur together: one category of the combinations that training had."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, eq=False)
class LinkStep:
    """The columns become one, of their combinations.

    Attributes:
        rule: which columns.
        combinations: each once, the most frequent first; an empty cell is a value like others.
    """

    rule: Linked
    combinations: pa.Table
    needed: tuple[str, ...] = ()

    @classmethod
    def fit(cls, rule: Linked, table: pa.Table) -> LinkStep:
        """Of the rows of training.

        Raises:
            DataError: a column does not follow from the others; the message names two rows.
        """
        part = table.select(list(rule.columns))
        codes = np.stack([_codes(cells(part, name), cells(part, name)) for name in rule.columns], axis=1)
        _, first, inverse, counts = np.unique(codes, axis=0, return_index=True, return_inverse=True, return_counts=True)
        order = np.lexsort((first, -counts))
        _check_determined(rule, part, codes, inverse.reshape(-1), first)
        return cls(rule, _plain(part.take(pa.array(first[order]))))

    @property
    def removed(self) -> tuple[str, ...]:
        """The columns."""
        return self.rule.columns

    @property
    def added(self) -> str:
        """Their combination."""
        return " & ".join(self.rule.columns)

    @cached_property
    def labels(self) -> pa.Array:
        """What the combinations are called."""
        rows = zip(*(self.combinations.column(name).to_pylist() for name in self.rule.columns), strict=True)
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

    def allowed(self, table: pa.Table) -> Mask:
        """Which combinations go with what each row holds, empty cells to be filled, ``(n, combinations)``.

        Raises:
            DataError: a row with none; the message names it.
        """
        fits = np.ones((table.num_rows, self.combinations.num_rows), bool)
        for name in self.removed:
            own, known = cells(table, name), cells(self.combinations, name)
            values = _codes(own, known)
            there = ~arrow.is_missing(own)
            same = values[:, None] == _codes(known, known)[None]
            # An empty cell is to be filled, so with a value.
            fits &= np.where(there[:, None], same, ~arrow.is_missing(known)[None])
        bad = np.flatnonzero(~fits.any(1))
        if len(bad):
            raise DataError(self._never(table, int(bad[0])))
        return fits

    def names(self, conditions: Mapping[str, Condition]) -> tuple[str, ...]:
        """The combinations that meet conditions on the columns."""
        return tuple(self.labels.filter(pa.array(all_hold(self.combinations, conditions))).to_pylist())

    def numbers(self, table: pa.Table) -> Codes:
        """The number of each row's combination, -1 where training had none, ``(n,)``."""
        known = np.stack(
            [_codes(cells(self.combinations, name), cells(self.combinations, name)) for name in self.removed], 1
        )
        rows = np.stack([_codes(cells(table, name), cells(self.combinations, name)) for name in self.removed], 1)
        _, inverse = np.unique(np.concatenate([known, rows]), axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        number = np.full(int(inverse.max(initial=0)) + 1, -1)
        number[inverse[: len(known)]] = np.arange(len(known))
        return number[inverse[len(known) :]]

    def _never(self, table: pa.Table, row: int) -> str:
        held = ", ".join(f"{name} = {cells(table, name)[row].as_py()!r}" for name in self.removed)
        return f"Row {row + 1}: {held} did not occur together in training, against the rule {str(self.rule)!r}."


def _codes(array: pa.Array, known: pa.Array) -> Codes:
    """Where each cell first stands among known ones, -1 where it does not; missing cells are alike."""
    kind = known.type
    array, known = (
        pc.if_else(pa.array(arrow.is_missing(part)), pa.scalar(None, kind), part.cast(kind)) for part in (array, known)
    )
    return np.asarray(pc.fill_null(pc.index_in(array, known.unique()), -1).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, in one piece."""
    return pa.table({name: cells(table, name) for name in table.column_names})


def _check_determined(rule: Linked, table: pa.Table, codes: Codes, inverse: Codes, first: Codes) -> None:
    """Raise `DataError` where two combinations agree on the columns that should determine the others."""
    if not rule.determined:
        return
    sources = [place for place, name in enumerate(rule.columns) if name not in rule.determined]
    _, group, sizes = np.unique(codes[first][:, sources], axis=0, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes[group.reshape(-1)] > 1)
    if len(several):
        same = np.flatnonzero(group.reshape(-1) == group.reshape(-1)[several[0]])
        rows = sorted(int(first[place]) for place in same)[:2]
        raise DataError(
            f"The rule {str(rule)!r} is broken: rows {rows[0] + 1} and {rows[1] + 1} agree on "
            f"{', '.join(map(repr, (rule.columns[place] for place in sources)))} and not on "
            f"{', '.join(map(repr, rule.determined))}; correct them, or use {str(Linked(rule.columns))!r}."
        )
    assert len(inverse) == table.num_rows
