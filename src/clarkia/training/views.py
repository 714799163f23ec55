"""Sources made of others: some of the rows, or the same rows with more blocks."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from ..spaces import State, num_rows
from .batches import fingerprint, take
from .sources import Source


class Subset:
    """Some rows of a source.

    Args:
        source: the source; how its rows lie in storage is no longer told, so give one whose rows cost alike.
        indices: int64 (n,), the numbers of the rows, each becoming a place in this order.
    """

    def __init__(self, source: Source, indices: Tensor):
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, indices: Tensor) -> State:
        """The rows with these numbers."""
        return self.source.rows(self.indices[indices])

    def fingerprint(self) -> int:
        """That of the source and of the choice."""
        return zlib.crc32(str(self.source.fingerprint()).encode(), fingerprint(self.indices))


class Joined:
    """A source of dicts with further blocks that are in memory.

    Args:
        source: whose rows are dicts of tensors.
        blocks: as many rows each, under names of their own; on the CPU.

    Raises:
        ValueError: another number of rows.
    """

    def __init__(self, source: Source, blocks: dict[str, Tensor]):
        if blocks and num_rows(blocks) != len(source):
            raise ValueError(f"blocks: expected {len(source)} rows, found {num_rows(blocks)}.")
        self.source, self.blocks = source, blocks

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: Tensor) -> State:
        """The rows with these numbers."""
        found, more = self.source.rows(indices), take(self.blocks, indices, torch.device("cpu"))
        if isinstance(found, Tensor) or isinstance(more, Tensor):
            raise ValueError("source: expected one whose rows are dicts of tensors.")
        return {**found, **more}

    def fingerprint(self) -> int:
        """That of the source and of the blocks."""
        return zlib.crc32(str(self.source.fingerprint()).encode(), fingerprint(self.blocks))
