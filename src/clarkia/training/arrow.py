"""Parquet and Arrow files as training data that are read while training, never as a whole."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import pyarrow as pa
import torch
from torch import Tensor

from ..errors import DataError
from ..spaces import State
from .arrow_files import ArrowFile, opened
from .sources import Locality

WINDOW = 65_536
"""Rows that are mixed by default."""

_SUFFIXES = (".parquet", ".arrow", ".feather", ".ipc")
_ENDS = 65_536  # bytes at either end of a file that its fingerprint reads; the table of contents stands at the end


class ArrowSource:
    """The rows of Parquet or Arrow files, read by row groups as training asks for them.

    Rows come in an order that is random over the row groups and over the rows of a window of them, a function of the
    seed and the epoch alone, so that each row group is read about once an epoch. The row groups of two windows are
    held; those of uncompressed Arrow files are mapped into memory and cost none.

    Args:
        paths: a file, a folder (all its .parquet, .arrow, .feather and .ipc files, by name), or several of them.
        columns: the columns wanted; all by default.
        decode: makes a state of a table with the rows of one batch, say `codec.encode`; a function of the rows alone,
            called in background threads. By default each column of numbers or truth values becomes a tensor (n,), each
            column of lists of one fixed length k a tensor (n, k).
        window: rows that are mixed.

    Attributes:
        locality: how the rows lie in the files.

    Raises:
        DataError: no such file; one that cannot be read; files with different columns; without `decode`, a column
            that holds no numbers, and in `rows` an empty cell.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        columns: Sequence[str] | None = None,
        decode: Callable[[pa.Table], State] | None = None,
        window: int = WINDOW,
    ):
        if window < 1:
            raise ValueError(f"window: expected a positive number of rows, found {window}.")
        self._files = [opened(path, columns) for path in _listed(paths)]
        _check_alike(self._files)
        if decode is None:
            _check_numbers(self._files[0])
        self._decode = decode
        self._where = [(file, group) for file in self._files for group in range(len(file.lengths))]
        pieces = torch.tensor([length for file in self._files for length in file.lengths], dtype=torch.int64)
        self.locality = Locality(pieces, window)
        self._ends = pieces.cumsum(0)
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._room = 2 * (window + max(pieces.tolist(), default=0))
        self._lock = Lock()

    def __len__(self) -> int:
        """Number of rows in all files."""
        return int(self.locality.pieces.sum())

    def rows(self, indices: Tensor) -> State:
        """The rows with these numbers, int64 (n,), counted through the files in order."""
        table = self.table(indices)
        if self._decode is not None:
            return self._decode(table)
        state = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if column.null_count:
                row = int(indices[int(column.is_null().to_numpy().argmax())])
                raise DataError(f"column {name!r} has an empty cell in row {row}; fill it, leave it out or give decode")
            state[name] = _tensor(name, column)
        return state

    def table(self, indices: Tensor) -> pa.Table:
        """The rows with these numbers as they are in the files."""
        piece = torch.searchsorted(self._ends, indices, right=True)
        local = indices - (self._ends - self.locality.pieces)[piece]
        order = piece.argsort(stable=True)
        parts = []
        for number, where in zip(*_runs(piece[order]), strict=True):
            parts.append(self._piece(number).take(pa.array(local[order[where]].numpy())))
        if not parts:
            return self._files[0].schema.empty_table()
        # Taking from the few rows of the batch puts them back in the order that was asked for.
        return pa.concat_tables(parts).combine_chunks().take(pa.array(order.argsort().numpy()))

    def fingerprint(self) -> int:
        """A checksum of the columns, sizes and both ends of the files, where Parquet and Arrow keep their contents."""
        checksum = zlib.crc32(str(self._files[0].schema.remove_metadata()).encode())
        for file in self._files:
            size = file.path.stat().st_size
            with file.path.open("rb") as stream:
                ends = stream.read(_ENDS)
                stream.seek(max(size - _ENDS, 0))
                ends += stream.read(_ENDS)
            checksum = zlib.crc32(f"{size} {file.lengths}".encode() + ends, checksum)
        return checksum

    def _piece(self, number: int) -> pa.Table:
        """A row group, kept until newer ones need its room."""
        with self._lock:
            if number in self._held:
                self._held.move_to_end(number)
                return self._held[number]
            file, group = self._where[number]
            self._held[number] = table = file.read(group)
            while len(self._held) > 1 and sum(map(len, self._held.values())) > self._room:
                self._held.popitem(last=False)
            return table


def _runs(values: Tensor) -> tuple[list[int], list[slice]]:
    """The distinct values of a sorted tensor and where each stands."""
    distinct, counts = values.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    slices = [slice(start, end) for start, end in zip((ends - counts).tolist(), ends.tolist(), strict=True)]
    return distinct.tolist(), slices


def _listed(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files meant by paths, folders opened."""
    listed = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = Path(path)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
            if not inside:
                raise DataError(f"the folder {path} holds no {', '.join(_SUFFIXES)} file; name another one")
            listed += inside
        else:
            listed.append(path)
    if not listed:
        raise DataError("no data files were given; name at least one")
    return listed


def _check_alike(files: list[ArrowFile]) -> None:
    first = files[0]
    for file in files[1:]:
        for field in first.schema:
            found = file.schema.field(field.name).type if field.name in file.schema.names else "no such column"
            if found != field.type:
                reason = f"{found} in {file.path} and {field.type} in {first.path}"
                raise DataError(f"column {field.name!r} is {reason}; give files with the same columns")
        if extra := set(file.schema.names) - set(first.schema.names):
            raise DataError(f"{file.path} has columns that {first.path} lacks: {sorted(extra)}; choose with columns=")


def _check_numbers(file: ArrowFile) -> None:
    for field in file.schema:
        inner = field.type
        while pa.types.is_fixed_size_list(inner):
            inner = inner.value_type
        if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
            raise DataError(
                f"column {field.name!r} of {file.path} is {field.type}, not numbers; choose columns= without it, or "
                "give decode= to make numbers of it"
            )


def _tensor(name: str, column: pa.ChunkedArray) -> Tensor:
    """A column without empty cells, lists of fixed length as further axes."""
    shape, values = [len(column)], column.combine_chunks()
    while pa.types.is_fixed_size_list(values.type):
        shape.append(values.type.list_size)
        values = values.flatten()
    if values.null_count:
        raise DataError(f"a list in column {name!r} has an empty entry; fill it, leave the column out or give decode")
    return torch.tensor(values.to_numpy(zero_copy_only=False)).reshape(shape)
