"""What a column of a table is likely to hold: by one evaluation where no rule has a say, else by draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from clarkia.adapters.frames import to_arrow
from clarkia.codecs.constraints.linked import LinkStep
from clarkia.codecs.constraints.steps import OrderStep
from clarkia.codecs.table.arrow import is_missing, is_number, one_chunk
from clarkia.codecs.table.category import CategoryCoding, fit_category
from clarkia.codecs.table.fixed import ConstantCoding, KeyCoding
from clarkia.codecs.table.options import CodingOptions
from clarkia.codecs.table.roles import unknown_column
from clarkia.errors import DataError
from clarkia.models import filling, steered
from clarkia.models.classify import RARE, predict_column, summary

if TYPE_CHECKING:
    from clarkia.codecs.constraints import RuleEncoding
    from clarkia.models.table import TableModel

Rows = NDArray[np.int64]

ROWS_AT_ONCE = 4096


def predict(model: TableModel, frame: Any, column: str | None, *, draws: int, seed: int) -> pd.DataFrame:
    """See `TableModel.predict`."""
    if column is None:
        raise DataError("column: the model has no target; name the column to be predicted.")
    rules = model.rules_
    if not rules.rules:
        return predict_column(model, frame, column, draws=draws, seed=seed)
    if column not in rules.schema.names:
        raise DataError(unknown_column(column, rules.schema.names))
    if draws < 2:
        raise DataError(f"draws: expected at least 2, found {draws}.")
    coding = _category(model, column)
    table = to_arrow(frame, model.roles)
    _check_orders(rules, table, column)
    if column in table.column_names:
        table = table.drop_columns([column])
    gaps = filling.Gaps.of(model.codec_, rules, table, model.seed)
    asked = _Asked(model, column, coding, draws, seed)
    # Where all is known that a rule speaks of, it has nothing to say of other columns.
    by_rules = any(column in rule.columns for rule in rules.rules)
    drawn = gaps.narrowed | rules.leaves_open(table) | by_rules
    if drawn.all():
        return asked.by_draws(gaps)
    rows = np.concatenate([np.flatnonzero(drawn), np.flatnonzero(~drawn)])
    parts = [asked.by_draws(gaps.take(np.flatnonzero(drawn)))] if drawn.any() else []
    parts.append(asked.at_once(gaps.take(np.flatnonzero(~drawn))))
    return pd.concat(parts).set_axis(rows).sort_index().reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is asked of some rows.

    Attributes:
        model: the model.
        column: the column, which the rows do not have.
        coding: of its categories; None where it holds numbers or times.
        draws: of a row.
        seed: of the draws.
    """

    model: TableModel
    column: str
    coding: CategoryCoding | None
    draws: int
    seed: int

    def at_once(self, gaps: filling.Gaps) -> pd.DataFrame:
        """The answers of the network itself, as if there were no rules."""
        return predict_column(self.model, gaps.changed, self.column, draws=self.draws, seed=self.seed)

    def by_draws(self, gaps: filling.Gaps) -> pd.DataFrame:
        """The answers of rows that are filled in as `impute` fills them."""
        size = max(1, ROWS_AT_ONCE // self.draws)
        sampler = self.model._sampler(None, 0.0, None)
        cells = []
        for first in range(0, max(1, len(gaps.rows)), size):
            some = np.repeat(np.arange(first, min(first + size, len(gaps.rows))), self.draws)
            part = gaps.take(some)
            numbers = steered.copied(part.rows[:: self.draws], self.draws)
            cells.append(one_chunk(filling.fill(sampler, part, self.seed, numbers).column(self.column)))
        whole = one_chunk(pa.chunked_array(cells))
        if self.coding is None:
            return _summary(whole, len(gaps.rows), self.draws)
        return _frequencies(whole, len(gaps.rows), self.draws, self.coding, self.column)


def _category(model: TableModel, column: str) -> CategoryCoding | None:
    """How the categories of a column are coded, of linked ones as they occurred; None of numbers and times.

    Raises:
        DataError: a key or a constant.
    """
    if column not in model.rules_.hidden:
        coding = model.codec_.column(column)[1]
        if isinstance(coding, ConstantCoding | KeyCoding):
            raise DataError(f"Column {column!r} is a constant or a key, made afresh; there is nothing to predict.")
        return coding if isinstance(coding, CategoryCoding) else None
    kind = model.rules_.schema.field(column).type
    declared = (model.roles or {}).get(column) in ("categorical", "boolean")
    for step in model.rules_.steps:
        if isinstance(step, LinkStep) and column in step.removed and (declared or not _is_scale(kind)):
            values = one_chunk(step.combinations.column(column))
            most = CodingOptions(max_levels=len(values), max_values=len(values))
            return fit_category(values.filter(pa.array(~is_missing(values))), most)
    return None


def _is_scale(kind: pa.DataType) -> bool:
    return is_number(kind) or pt.is_temporal(kind)


def _check_orders(rules: RuleEncoding, table: pa.Table, column: str) -> None:
    """Raise `DataError` where the rows hold what is coded by its distance from the column."""
    for step in rules.steps:
        if not isinstance(step, OrderStep) or column != step.rule.low or step.rule.high not in table.column_names:
            continue
        high = step.rule.high
        if not is_missing(one_chunk(table.column(high))).all():
            raise DataError(
                f"Column {column!r} cannot be predicted from {high!r}, which the rule {str(step.rule)!r} codes by its "
                f"distance from it; leave {high!r} out of the rows too."
            )


def _summary(cells: pa.Array, rows: int, draws: int) -> pd.DataFrame:
    """Mean, deviation and quantiles of the draws of each row; others stand in for those without a value."""
    there = ~is_missing(cells).reshape(rows, draws)
    some = np.flatnonzero(there.any(1))
    order = np.argsort(~there[some], axis=1, kind="stable")
    turn = np.arange(draws) % there[some].sum(1, keepdims=True)
    places = np.take_along_axis(order, turn, 1) + draws * some[:, None]
    values = cells.take(pa.array(places.flatten()))
    values = (values.cast(pa.float64()) if is_number(values.type) else values).to_pandas()
    return summary(values, len(some), draws).set_index(some).reindex(np.arange(rows))


def _frequencies(cells: pa.Array, rows: int, draws: int, coding: CategoryCoding, column: str) -> pd.DataFrame:
    """The share of each value among the draws of each row that have one, rare values together."""
    there = ~is_missing(cells)
    counts = np.zeros((rows, coding.num_levels))
    np.add.at(counts, (np.repeat(np.arange(rows), draws)[there], coding.find(cells.filter(pa.array(there)))), 1.0)
    answers = [*coding.values.to_pylist(), *([RARE] if coding.rare is not None else [])]
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return pd.DataFrame(shares, columns=pd.Index(answers, dtype=object, name=column))
