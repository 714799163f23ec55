"""Tables from files: CSV, Parquet, Arrow."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
from pyarrow import feather, parquet

from clarkia.adapters.delimited import read_csv
from clarkia.errors import DataError
from clarkia.shards import is_table_folder, parts_of

_TEXT = (".csv", ".tsv", ".txt")
_PACKED = (".gz", ".bz2", ".zst")
_PARQUET = (".parquet", ".pq")
_ARROW = (".arrow", ".feather", ".ipc")


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Read a table from a file, whose kind its name tells.

    Args:
        path: a CSV file (.csv, .tsv, .txt; packed with .gz, .bz2 or .zst), a Parquet file (.parquet, .pq) or an Arrow
            file (.arrow, .feather, .ipc); or a folder of Parquet files alone, which follow each other in the order of
            their names.

    Returns:
        The table, with at least one row. In CSV, empty cells and NA, NaN, null and the like are missing.

    Raises:
        DataError: the file is absent, unreadable, of no known kind, damaged or empty, or a part is missing or has other
            columns; the message says which and where.
    """
    path = Path(path)
    table = _joined(parts_of(path)) if is_table_folder(path) else _read(path)
    if table.num_columns == 0:
        raise DataError(f"{path}: the file has no columns.")
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError(f"{path}: column {name!r} appears more than once; rename one of them.")
    if table.num_rows == 0:
        raise DataError(f"{path}: the file has a header but no rows.")
    return table


def _joined(paths: list[Path]) -> pa.Table:
    """The parts of a table one after the other, with one list of values for each column that has a few."""
    tables = [_read(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if not table.schema.equals(tables[0].schema):
            other = paths[0].name
            raise DataError(f"{path}: the columns or their types are not those of {other}; they are not one table.")
    return pa.concat_tables(tables).unify_dictionaries()


def _read(path: Path) -> pa.Table:
    """Read one file, with whatever is in it."""
    kind = _kind(path)
    try:
        if kind == "csv":
            table = read_csv(path)
        elif kind == "parquet":
            table = parquet.ParquetFile(path).read()
        else:
            table = _read_arrow(path)
        table.validate(full=True)
    except DataError:
        raise
    except PermissionError:
        raise DataError(f"{path}: you have no permission to read this file.") from None
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: the file is damaged or no {kind} file ({_first_line(error)}).") from None
    return table


def _kind(path: Path) -> str:
    """Return "csv", "parquet" or "Arrow", after the checks that need no reading."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file, or a folder that holds Parquet files and nothing else.")
    suffix = path.suffix.lower()
    if suffix in _PACKED:
        suffix = Path(path.stem).suffix.lower()
        if suffix not in _TEXT:
            raise DataError(f"{path}: only CSV files may be packed; unpack it first.")
    kind = {**dict.fromkeys(_TEXT, "csv"), **dict.fromkeys(_PARQUET, "parquet"), **dict.fromkeys(_ARROW, "Arrow")}.get(
        suffix
    )
    if kind is None:
        known = ", ".join((*_TEXT, *_PARQUET, *_ARROW))
        raise DataError(
            f"{path}: the ending {suffix!r} says no known kind of table; the known ones are {known} (or .csv.gz)."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    return kind


def _read_arrow(path: Path) -> pa.Table:
    """Read an Arrow file in either of its forms."""
    with pa.OSFile(str(path)) as source:
        if source.read(6) == b"ARROW1":
            source.seek(0)
            return pa.ipc.open_file(source).read_all()
        source.seek(0)
        if source.read(4) == b"FEA1":
            return feather.read_table(path, memory_map=False)
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
