"""What a column of a table is likely to hold: classes by one evaluation, numbers and columns of rules by draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clarkia.adapters.frames import to_arrow
from clarkia.codecs.constraints.cells import check_columns
from clarkia.codecs.table.arrow import is_missing, one_chunk
from clarkia.errors import DataError
from clarkia.models import filling
from clarkia.models.classify import predict_column, summary

if TYPE_CHECKING:
    import pyarrow as pa

    from clarkia.models.table import TableModel

ROWS_AT_ONCE = 4096


def predict(model: TableModel, frame: Any, column: str | None, *, draws: int, seed: int) -> pd.DataFrame:
    """See `TableModel.predict`."""
    if column is None:
        raise DataError("column: the model has no target; name the column to be predicted.")
    if not model.rules_.steps:
        return predict_column(model, frame, column, draws=draws, seed=seed)
    check_columns([column], model.rules_.schema.names, "predict")
    if draws < 2:
        raise DataError(f"draws: expected at least 2, found {draws}.")
    # A rule may tell what the column holds from the others, so rows are filled as `impute` fills them.
    table = to_arrow(frame, model.roles)
    if column in table.column_names:
        table = table.drop_columns([column])
    size = max(1, ROWS_AT_ONCE // draws)
    parts = [
        _drawn(model, table.slice(first, size), column, draws, seed, first) for first in range(0, table.num_rows, size)
    ]
    cells = pd.concat(parts, ignore_index=True) if parts else pd.Series(dtype=float)
    if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_datetime64_any_dtype(cells):
        return summary(cells, table.num_rows, draws)
    return _frequencies(cells, table.num_rows, draws, column)


def _drawn(model: TableModel, part: pa.Table, column: str, draws: int, seed: int, first: int) -> pd.Series:
    many = part.take(np.repeat(np.arange(part.num_rows), draws))
    sampler = model._sampler(None, 0.0, None)
    filled = filling.impute(model.codec_, sampler, many, seed + first, model.seed)
    cells = one_chunk(filled.column(column))
    assert not is_missing(cells).any() or column in model.rules_.hidden
    return cells.to_pandas()


def _frequencies(cells: pd.Series, rows: int, draws: int, column: str) -> pd.DataFrame:
    """The share of each value among the draws of each row, those of a row together."""
    codes, values = pd.factorize(cells.astype(object), sort=False)
    counts = np.zeros((rows, len(values)))
    np.add.at(counts, (np.repeat(np.arange(rows), draws), codes), 1.0 / draws)
    order = np.argsort([str(value) for value in values], kind="stable")
    return pd.DataFrame(counts[:, order], columns=pd.Index(values[order], dtype=object, name=column))
