"""Columns that are not learned: constants are replayed, keys are made afresh."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from clarkia.codecs.table.category import plain
from clarkia.errors import DataError

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class ConstantCoding:
    """A column with one value (which may be null): the value is replayed.

    Attributes:
        value: one cell, as an array of the column's type.
    """

    value: pa.Array

    def decode(self, num_rows: int) -> pa.Array:
        """Return the value, num_rows times."""
        return self.value.take(pa.array(np.zeros(num_rows, np.int64)))


@dataclass(frozen=True, eq=False)
class KeyCoding:
    """A column of unique identifiers: fresh ones that occur nowhere in the training table.

    Attributes:
        kind: Arrow type of the column.
        style: "integer" (counts on from the greatest), "numbered" (prefix and number, zero-padded) or "uuid".
        prefix: text before the number.
        width: digits of the number.
        start: number of row 0.
    """

    kind: pa.DataType
    style: str
    prefix: str
    width: int
    start: int

    def decode(self, num_rows: int, first_row: int) -> pa.Array:
        """Return the keys of rows first_row, first_row + 1, ...

        Raises:
            DataError: the column's integer type has no numbers left.
        """
        if self.style == "uuid":
            return _uuids(np.arange(first_row, first_row + num_rows, dtype=np.uint64) + np.uint64(self.start)).cast(
                self.kind
            )
        numbers = range(self.start + first_row, self.start + first_row + num_rows)
        if self.style == "integer":
            high = int(np.iinfo(self.kind.to_pandas_dtype()).max)
            if num_rows and numbers[-1] > high:
                raise DataError(
                    f"Keys of type {self.kind} run out after {high}; drop the column or give it a wider type."
                )
            return pa.array(np.arange(numbers.start, numbers.stop, dtype=self.kind.to_pandas_dtype()), self.kind)
        text = pa.array(np.arange(numbers.start, numbers.stop, dtype=np.int64)).cast(pa.string())
        padded = pc.utf8_lpad(text, width=self.width, padding="0")
        return pc.binary_join_element_wise(pa.scalar(self.prefix), padded, "").cast(self.kind)


def _uuids(counter: np.ndarray) -> pa.Array:
    """Return version-4 shaped identifiers, one to one with the counter (splitmix64 of it, twice)."""
    halves = np.stack([_mix(counter * np.uint64(2)), _mix(counter * np.uint64(2) + np.uint64(1))], axis=1)
    digits = np.frombuffer(halves.astype(">u8").tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    dash = np.full((len(digits), 1), ord("-"), np.uint8)
    parts = [digits[:, :8], digits[:, 8:12], digits[:, 12:16], digits[:, 16:20], digits[:, 20:]]
    parts[2] = np.concatenate([np.full_like(dash, ord("4")), parts[2][:, 1:]], axis=1)
    text = np.concatenate([parts[0], dash, parts[1], dash, parts[2], dash, parts[3], dash, parts[4]], axis=1)
    flat = pa.py_buffer(np.ascontiguousarray(text))
    return pa.Array.from_buffers(pa.binary(36), len(text), [None, flat]).cast(pa.binary()).cast(pa.string())


def _mix(x: np.ndarray) -> np.ndarray:
    x = x * _GOLDEN + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def fit_key(name: str, array: pa.Array) -> KeyCoding:
    """Find the style of a key column and the first number that is free.

    Args:
        name: the column.
        array: its cells that are not missing, at least one.
    """
    kind = array.type
    if pt.is_integer(kind):
        return KeyCoding(kind, "integer", "", 0, int(pc.max(array).as_py()) + 1)
    text = plain(array).cast(pa.large_string())
    if pc.all(pc.match_substring_regex(text, _UUID)).as_py():
        return KeyCoding(kind, "uuid", "", 0, 0)
    parts = pc.extract_regex(text, r"^(?P<prefix>\D*)(?P<number>\d{1,18})$")
    if parts.null_count == 0:
        prefixes = pc.unique(parts.field("prefix"))
        if len(prefixes) == 1:
            numbers = parts.field("number")
            width = int(pc.min(pc.utf8_length(numbers)).as_py())
            return KeyCoding(
                kind, "numbered", prefixes[0].as_py(), width, int(pc.max(numbers.cast(pa.int64())).as_py()) + 1
            )
    prefix = f"{name}-"
    while pc.any(pc.starts_with(text, prefix)).as_py():
        prefix = "new-" + prefix
    return KeyCoding(kind, "numbered", prefix, 8, 0)
