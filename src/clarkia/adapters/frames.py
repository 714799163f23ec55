"""Data frames to Arrow tables and back: pandas, polars and pyarrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from clarkia.errors import DataError


def to_arrow(frame: Any, roles: Mapping[str, str] | None = None) -> pa.Table:
    """Return a frame as an Arrow table that remembers the frame's own types.

    Args:
        frame: a pandas or polars DataFrame, a polars LazyFrame, a pyarrow Table or RecordBatch. A pandas index is left
            out.
        roles: declared roles; a column of mixed Python objects that is declared "categorical" becomes text.

    Raises:
        DataError: the object is no frame, a column's name occurs twice, or a column mixes types (with its first odd
            row).
    """
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if isinstance(frame, pd.DataFrame):
        return _from_pandas(frame, roles or {})
    if _is_polars(frame):
        collected = frame.collect() if hasattr(frame, "collect") else frame
        return collected.to_arrow()
    raise DataError(f"A table is a pandas or polars DataFrame or a pyarrow Table, not {type(frame).__name__}.")


def from_arrow(table: pa.Table, like: Any = None) -> Any:
    """Return an Arrow table as the kind of frame that ``like`` is.

    Args:
        table: the table.
        like: a frame, whose column types are taken over where a column of its name exists, and a pandas frame's index
            where it has as many rows; None for an Arrow table.

    Returns:
        A pandas or polars DataFrame, or a pyarrow Table.
    """
    if isinstance(like, pd.DataFrame):
        return _to_pandas(table, like)
    if like is not None and _is_polars(like):
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(table))
        known = like.collect_schema() if hasattr(like, "collect_schema") else like.schema
        return frame.cast({name: dtype for name, dtype in known.items() if name in frame.columns})
    return table


def _is_polars(frame: Any) -> bool:
    return type(frame).__module__.split(".")[0] == "polars" and type(frame).__name__ in ("DataFrame", "LazyFrame")


def _from_pandas(frame: pd.DataFrame, roles: Mapping[str, str]) -> pa.Table:
    names = [str(name) for name in frame.columns]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DataError(f"Column {name!r} appears more than once; rename one of them.")
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    as_text = {}
    for place, name in enumerate(names):
        column = frame.iloc[:, place]
        if _converts(column):
            continue
        if roles.get(name) != "categorical":
            raise DataError(_odd_cell(name, column))
        as_text[frame.columns[place]] = column.map(str, na_action="ignore").astype("str")
    return pa.Table.from_pandas(frame.assign(**as_text), preserve_index=False)


def _converts(column: pd.Series) -> bool:
    try:
        pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _odd_cell(name: str, column: pd.Series) -> str:
    """Return the sentence about the first cell whose type is not the column's commonest."""
    cells = column.to_numpy(dtype=object)
    kinds = [None if missing else type(cell).__name__ for cell, missing in zip(cells, column.isna(), strict=True)]
    common = Counter(kind for kind in kinds if kind is not None).most_common(1)[0][0]
    row = next((row for row, kind in enumerate(kinds) if kind not in (common, None)), None)
    if row is None:
        return f"Column {name!r} holds cells of type {common}, which have no place in a table; convert or drop it."
    return (
        f"Column {name!r}, row {row + 1}: {cells[row]!r} is of type {kinds[row]} in a column of {common}; "
        f"correct the cell, or declare roles={{{name!r}: 'categorical'}}."
    )


def _to_pandas(table: pa.Table, like: pd.DataFrame) -> pd.DataFrame:
    frame = table.to_pandas()
    own = {str(name): name for name in like.columns}
    frame.columns = pd.Index([own.get(str(name), name) for name in frame.columns])
    for name in frame.columns:
        if name in like.columns and frame[name].dtype != like[name].dtype:
            try:
                frame[name] = frame[name].astype(like[name].dtype)
            except (TypeError, ValueError):
                continue  # missing cells in a column that had none: the wider type stays
    if len(like) == len(frame) and len(frame):
        frame.index = like.index
    return frame
