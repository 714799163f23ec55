"""CSV files as people write them."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.types as pt

from clarkia.errors import DataError

_BLOCK_BYTES = 64 * 2**20
_SCAN_BYTES = 16 * 2**20
_DELIMITERS = (",", ";", "\t", "|")
_LEADING_ZERO = re.compile(rb"""(?:\A|[\r\n,;\t|"])[+-]?0\d""")
_UNREADABLE = "it is not UTF-8 text; save it with the encoding UTF-8"


def read_csv(path: Path) -> pa.Table:
    """Read a CSV file, plain or packed.

    The delimiter is the commonest of comma, semicolon, tab and bar in the header. Types are inferred: integers (unless
    a cell has a leading zero, as postal codes do), floats, booleans, dates, times, else text. Quotes may enclose
    delimiters, doubled quotes and line breaks.

    Args:
        path: the file.

    Raises:
        DataError: the file is empty, not UTF-8, or a row has too many or too few cells (with its number).
        pa.ArrowException, OSError: the packing is damaged.
    """
    try:
        delimiter = _delimiter(path)
        table = _keep_leading_zeros(path, delimiter, _read(path, delimiter))
        names = table.column_names
    except UnicodeDecodeError:
        raise DataError(f"{path}: {_UNREADABLE}.") from None
    except pa.ArrowInvalid as error:
        raise DataError(_complaint(path, str(error))) from None
    return pa.table([_settle(path, name, cells) for name, cells in zip(names, table.columns, strict=True)], names=names)


def _read(path: Path, delimiter: str, text_columns: Sequence[str] = ()) -> pa.Table:
    """Read all columns with inferred types, or some columns as text."""
    return pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),  # so that errors name the row
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(text_columns, pa.string()),
            include_columns=text_columns or None,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _complaint(path: Path, reason: str) -> str:
    """Return what is wrong with the file in words that help."""
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", reason)
    if ragged is None:
        return f"{path}: the file is no CSV table ({reason.splitlines()[0][:200]})."
    row, expected, found = map(int, ragged.groups())
    return (
        f"{path}, row {row - 1} after the header: {found} cells where the header has {expected}; "
        f"correct the row, or put cells that contain the delimiter in quotes."
    )


def _delimiter(path: Path) -> str:
    """Return the commonest delimiter of the first line, outside of quotes."""
    with pa.input_stream(path) as source:
        start = source.read(2**16)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: {_UNREADABLE}.")
    if not start.strip(b"\xef\xbb\xbf\r\n\t "):
        raise DataError(f"{path}: the file is empty.")
    line = re.sub(rb'"[^"]*"', b"", start.lstrip(b"\xef\xbb\xbf\r\n")).splitlines()[0].decode("utf-8", "replace")
    return max(_DELIMITERS, key=line.count)


def _keep_leading_zeros(path: Path, delimiter: str, table: pa.Table) -> pa.Table:
    """Return the table with those integer columns as text that hold a number such as 02139."""
    suspects = [field.name for field in table.schema if pt.is_integer(field.type)]
    if not suspects or len(set(table.column_names)) < table.num_columns or not _has_leading_zero(path):
        return table
    texts = _read(path, delimiter, suspects)
    for name in suspects:
        if pc.any(pc.match_substring_regex(texts[name], r"^[+-]?0\d")).as_py():
            table = table.set_column(table.schema.get_field_index(name), name, texts[name])
    return table


def _has_leading_zero(path: Path) -> bool:
    """Scan the file for digits after a zero at the start of a cell."""
    rest = b""
    with pa.input_stream(path) as source:
        while block := source.read(_SCAN_BYTES):
            if _LEADING_ZERO.search(rest + block):
                return True
            rest = block[-4:]
    return False


def _settle(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Refuse bytes that are no text; take times at their own resolution and numbers whose empty cells were quoted."""
    if pt.is_binary(column.type):
        row = next(row for row, cell in enumerate(column) if not _is_utf8(cell.as_py()))
        raise DataError(f"{path}: column {name!r}, row {row + 1}: {_UNREADABLE}.")
    if pt.is_timestamp(column.type) and column.type.unit == "ns":
        return _coarser(column)
    if not pt.is_string(column.type) or not pc.any(pc.equal(column, "")).as_py():
        return column
    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    if filled.null_count == len(filled) or pc.any(pc.match_substring_regex(filled, r"^[+-]?0\d")).as_py():
        return column
    for kind in (pa.int64(), pa.float64()):
        try:
            return filled.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _coarser(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return points in time in milliseconds or microseconds where these are enough."""
    for unit in ("ms", "us"):
        try:
            return column.cast(pa.timestamp(unit, column.type.tz))
        except pa.ArrowInvalid:
            continue
    return column


def _is_utf8(cell: bytes | None) -> bool:
    try:
        (cell or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
