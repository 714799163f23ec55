"""Output files: refused before any work, written in pieces, whole or absent under their final name."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import check_writable, replacing
from ..errors import DataError
from ..shards import is_table_folder

if TYPE_CHECKING:
    import pyarrow as pa

WRITTEN = (".csv", ".csv.gz", ".parquet", ".arrow", ".feather")
_READ = (*WRITTEN, ".tsv", ".txt", ".pq", ".ipc")
_PACKED = (".gz", ".bz2", ".zst")
_ROWS_PER_WRITE = 65_536  # a row group of a Parquet file


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        DataError: the file exists and `overwrite` is false, or it cannot be written.
    """
    if not overwrite and path.exists() and not path.is_dir():
        raise DataError(f"{path} exists already; add --overwrite to replace it, or choose another name")
    check_writable(path, overwrite=overwrite)


def check_table_output(path: Path, *, overwrite: bool) -> None:
    """Refuse the output of a table before any work is done for it.

    Raises:
        DataError: the name does not end like a table's, the file exists already, or it cannot be written.
    """
    if not path.name.lower().endswith(WRITTEN):
        raise DataError(f"cannot write a table to {path}: its name must end in {_either(WRITTEN)}")
    check_output(path, overwrite=overwrite)


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds a table, or a folder is one in parts."""
    if is_table_folder(path):
        return True
    name = path.with_suffix("").name if path.suffix.lower() in _PACKED else path.name
    return name.lower().endswith(_READ)


def ending(path: Path) -> str:
    """The ending of a table's name, ".csv" where tables with its own are not written."""
    if path.is_dir():
        return ".parquet"
    return next((known for known in WRITTEN if path.name.lower().endswith(known)), ".csv")


@contextmanager
def table_writer(
    path: Path, schema: "pa.Schema", *, overwrite: bool, rows_per_write: int = _ROWS_PER_WRITE
) -> "Iterator[Callable[[pa.Table], None]]":
    """Lend a function that appends rows to a table file, which appears only when the block has succeeded.

    Memory holds `rows_per_write` rows and what the function is given.

    Args:
        path: the file; its ending is the format.
        schema: of all the rows.
        overwrite: whether an existing file may be replaced.
        rows_per_write: rows of a group in a Parquet file.

    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa

    with replacing(path, overwrite=overwrite) as temporary, _open(temporary, path.name.lower(), schema) as write:
        waiting: list[pa.Table] = []

        def append(table: pa.Table) -> None:
            waiting.append(table)
            if sum(part.num_rows for part in waiting) >= rows_per_write:
                write(pa.concat_tables(waiting))
                waiting.clear()

        yield append
        if waiting:
            write(pa.concat_tables(waiting))


def write_table(path: Path, table: "pa.Table", *, overwrite: bool) -> None:
    """Write a table to a file, whole or not at all; the ending of its name is the format.

    Raises:
        DataError: the file cannot be written.
    """
    with table_writer(path, table.schema, overwrite=overwrite) as write:
        for start in range(0, max(table.num_rows, 1), _ROWS_PER_WRITE):
            write(table.slice(start, _ROWS_PER_WRITE))


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _open(path: Path, name: str, schema: "pa.Schema") -> "Iterator[Callable[[pa.Table], None]]":
    """Open a table file in the format that its final name says."""
    import pyarrow as pa

    if name.endswith(".parquet"):
        import pyarrow.parquet as parquet

        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            yield writer.write_table
    elif name.endswith((".csv", ".csv.gz")):
        from pyarrow import csv

        plain = pa.schema([_plain(field) for field in schema])
        with _stream(path, compressed=name.endswith(".gz")) as file, csv.CSVWriter(file, plain) as writer:
            yield lambda table: writer.write_table(_for_csv(table, plain))
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            yield writer.write_table


def _stream(path: Path, *, compressed: bool) -> AbstractContextManager[Any]:
    import pyarrow as pa

    return pa.CompressedOutputStream(str(path), "gzip") if compressed else pa.OSFile(str(path), "wb")


def _plain(field: "pa.Field") -> "pa.Field":
    """A column as CSV can hold it: values instead of a dictionary, plain strings."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string_view(kind):
        kind = pa.large_string()
    if pa.types.is_binary_view(kind):
        kind = pa.large_binary()
    return pa.field(field.name, kind)


def _for_csv(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The rows with nothing in the place of missing cells, NaN among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = table.cast(schema)
    for place, field in enumerate(schema):
        if pa.types.is_floating(field.type):
            column = table.column(place)
            numbers = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
            table = table.set_column(place, field, numbers)
    return table


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
