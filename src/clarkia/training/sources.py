"""Training data that need not fit in memory: what a source is, and in which order its rows are cheap to read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import random
from ..errors import DataError
from ..spaces import State, num_rows
from .batches import ORDER, RowOrder, fingerprint, take


@runtime_checkable
class Source(Protocol):
    """Rows that are read when they are wanted.

    `rows` is called from background threads, several at a time, with the rows of one batch in any order. What it
    raises is raised again by `training.fit`. A source that reads some rows together more cheaply than apart has a
    property `locality` besides, and is then asked for rows that lie near each other.
    """

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def rows(self, indices: Tensor) -> State:
        """The rows with these numbers, int64 (n,), in this order and on the CPU: a tensor or a dict of tensors."""
        ...

    def fingerprint(self) -> int:
        """A checksum by which a resumed run knows that the data are the ones it was started on."""
        ...


@dataclass(frozen=True, eq=False)
class Locality:
    """How the rows of a source lie in storage.

    Attributes:
        pieces: int64 (p,), rows of each of the pieces that are read as a whole, in the order of the row numbers.
        window: rows that are mixed; pieces are opened until they hold this many.
    """

    pieces: Tensor
    window: int


@runtime_checkable
class LocalSource(Source, Protocol):
    """A source whose rows are cheaper to read together."""

    @property
    def locality(self) -> Locality:
        """How the rows lie in storage."""
        ...


class WindowOrder:
    """The endless sequence of rows of a run over data in pieces.

    Every epoch puts the pieces in a random order and cuts them into windows of neighbours; the rows of a window come in
    random order. So every row comes once an epoch, and only the pieces of one window, or of two where a batch lies
    across their border, are open at a time.

    Args:
        locality: the pieces.
        batch_size: rows of a batch.
        seed: fixes the sequence.
    """

    def __init__(self, locality: Locality, batch_size: int, seed: int):
        self.locality, self.batch_size, self.seed = locality, batch_size, seed
        self.num_rows = int(locality.pieces.sum())
        self._first = locality.pieces.cumsum(0) - locality.pieces
        self._epoch, self._window = lru_cache(2)(self._plan), lru_cache(2)(self._permutation)

    def batch(self, step: int) -> Tensor:
        """Row numbers of the batch of a step, int64 of shape (batch_size,)."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.num_rows)
            _, _, ends = self._epoch(epoch)
            window = int(torch.searchsorted(ends, offset, right=True))
            begin = int(ends[window - 1]) if window else 0
            parts.append(self._window(epoch, window)[offset - begin : offset - begin + stop - start])
            start += len(parts[-1])
        return torch.cat(parts)

    def _plan(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """The order of the pieces, the window that each of them falls in, and the row at which each window ends."""
        pieces = self.locality.pieces
        order = torch.randperm(len(pieces), generator=random.generator(self.seed, ORDER, epoch))
        ends = pieces[order].cumsum(0)
        # A piece belongs to the window in which its first row lies, so no window is longer by more than a piece.
        _, window, counts = ((ends - pieces[order]) // self.locality.window).unique_consecutive(
            return_inverse=True, return_counts=True
        )
        return order, window, ends[counts.cumsum(0) - 1]

    def _permutation(self, epoch: int, window: int) -> Tensor:
        order, windows, _ = self._epoch(epoch)
        pieces = order[windows == window]
        # Row numbers of all these pieces: the first of each, and how far a row is into its own.
        lengths = self.locality.pieces[pieces]
        rows = torch.arange(int(lengths.sum()))
        rows += (self._first[pieces] - (lengths.cumsum(0) - lengths)).repeat_interleave(lengths)
        return rows[torch.randperm(len(rows), generator=random.generator(self.seed, ORDER, epoch, window))]


class InMemory:
    """A state as a source; its rows are taken at once, without threads.

    Args:
        data: a tensor, or a dict of tensors, whose first axis is the rows; on the CPU.
    """

    def __init__(self, data: State):
        self.data, self._num_rows = data, num_rows(data)

    def __len__(self) -> int:
        return self._num_rows

    def rows(self, indices: Tensor) -> State:
        """The rows with these numbers."""
        return take(self.data, indices, torch.device("cpu"))

    def fingerprint(self) -> int:
        """A checksum of names, types, shapes and values."""
        return fingerprint(self.data)


def as_source(data: State | Source) -> Source:
    """The data as a source.

    Raises:
        ValueError: blocks of different length, or neither a state nor a source.
        DataError: no rows.
    """
    if isinstance(data, Tensor | dict):
        data = InMemory(data)
    if not isinstance(data, Source):
        raise ValueError(f"data: expected tensors or a training.Source, found {type(data).__name__}.")
    if len(data) == 0:
        raise DataError("the training data have no rows")
    return data


def order_of(source: Source, batch_size: int, seed: int) -> RowOrder | WindowOrder:
    """The order in which a run visits the rows of a source."""
    if isinstance(source, LocalSource):
        return WindowOrder(source.locality, batch_size, seed)
    return RowOrder(len(source), batch_size, seed)
