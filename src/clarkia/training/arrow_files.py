"""One Parquet or Arrow file as a row of pieces that can be read one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..errors import DataError


@dataclass(frozen=True, eq=False)
class ArrowFile:
    """A file that is open.

    Attributes:
        path: the file.
        schema: the chosen columns.
        lengths: rows of each piece: a row group of Parquet, a record batch of Arrow.
        read: read(piece) gives the chosen columns of one piece; not from several threads at once.
    """

    path: Path
    schema: pa.Schema
    lengths: tuple[int, ...]
    read: Callable[[int], pa.Table]


def opened(path: str | os.PathLike[str], columns: Sequence[str] | None) -> ArrowFile:
    """Open a file and read where its pieces are, but none of them.

    Args:
        path: Parquet, or Arrow in its file or stream form; told apart by their first bytes. The pieces of an Arrow
            stream can only be found by going through it, which is cheap where it is not compressed.
        columns: the columns wanted; None for all.

    Raises:
        DataError: no such file or column, or a file that cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            magic = stream.read(6)
        if magic[:4] == b"PAR1":
            return _parquet(path, columns)
        return _arrow(path, columns) if magic == b"ARROW1" else _arrow_stream(path, columns)
    except OSError as error:
        if isinstance(error, pa.ArrowException) or error.strerror is None:
            raise _unreadable(path) from error
        raise DataError(f"cannot read {path}: {error.strerror.lower()}") from error
    except pa.ArrowException as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> DataError:
    return DataError(f"{path} is no readable Parquet or Arrow file; give a whole one")


def _chosen(path: Path, schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    names = list(schema.names if columns is None else columns)
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; its columns are {schema.names}")
    if not names:
        raise DataError(f"no columns of {path} are wanted; choose at least one")
    return names


def _parquet(path: Path, columns: Sequence[str] | None) -> ArrowFile:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, memory_map=True)
    names = _chosen(path, file.schema_arrow, columns)
    lengths = tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))

    def read(piece: int) -> pa.Table:
        return _guarded(path, lambda: file.read_row_group(piece, columns=names).select(names).combine_chunks())

    return ArrowFile(path, _fields(file.schema_arrow, names), lengths, read)


def _arrow(path: Path, columns: Sequence[str] | None) -> ArrowFile:
    mapped = pa.memory_map(str(path))
    schema = pa.ipc.open_file(mapped).schema
    names = _chosen(path, schema, columns)
    wanted = sorted(schema.get_field_index(name) for name in names)
    file = pa.ipc.open_file(mapped, options=pa.ipc.IpcReadOptions(included_fields=wanted))
    # Rows are counted on one column, for the whole of a compressed batch would have to be unpacked for it.
    narrow = pa.ipc.open_file(mapped, options=pa.ipc.IpcReadOptions(included_fields=wanted[:1]))
    lengths = tuple(narrow.get_batch(piece).num_rows for piece in range(file.num_record_batches))

    def read(piece: int) -> pa.Table:
        return _guarded(path, lambda: pa.Table.from_batches([file.get_batch(piece)]).select(names))

    return ArrowFile(path, _fields(schema, names), lengths, read)


def _arrow_stream(path: Path, columns: Sequence[str] | None) -> ArrowFile:
    reader = pa.ipc.open_stream(pa.memory_map(str(path)))
    names = _chosen(path, reader.schema, columns)
    batches = [batch.select(names) for batch in reader]
    return ArrowFile(
        path,
        _fields(reader.schema, names),
        tuple(batch.num_rows for batch in batches),
        lambda piece: pa.Table.from_batches([batches[piece]]),
    )


def _fields(schema: pa.Schema, names: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def _guarded(path: Path, read: Callable[[], pa.Table]) -> pa.Table:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path}: it was changed or damaged while it was in use ({error})") from error
