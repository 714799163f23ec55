"""Texts as training data: tokens in a file that is mapped into memory, cut into rows when they are asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia._math.counters import uniforms
from clarkia.atomic import replacing
from clarkia.codecs.text import Bytes, TextCodec, text_source
from clarkia.codecs.text.files import read_pieces
from clarkia.errors import DataError

_BLOCK = 1 << 22


@final
class TextSource:
    """Texts as a training source; a batch of them is in memory, never all.

    A codec of documents gives a row a document. Any other gives windows of one long text: at random places that are a
    function of the row number, or one after the other.

    Args:
        texts: one long text, a list of texts, or the `Path` of a text file or of a folder of them. A codec of
            documents takes the lines of a file, or the files of a folder, as documents.
        codec: its tokens and its length.
        places: "random" windows, or "tiles" that follow each other, for measuring; documents have no use for it.
        passes: how many times as many random windows as tiles the source has.
        part: which part of one long text is used, so that another can be held out; documents have no use for it.
        seed: fixes the random places.
        unknown: refuse a character that the codec does not know, or replace it and count it in `replaced`.
        token_file: where the tokens are written; a file in the folder for temporary files, gone with the source, if
            not given. Bytes of a file need none: it is mapped itself.

    Attributes:
        replaced: characters that were replaced.

    Raises:
        DataError: a file that is not UTF-8 or cannot be read, an unknown character, a document longer than the codec's
            length, or a text shorter than it.
    """

    def __init__(
        self,
        texts: str | os.PathLike[str] | Iterable[str],
        codec: TextCodec,
        *,
        places: Literal["random", "tiles"] = "random",
        passes: int = 16,
        part: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        unknown: Literal["error", "replace"] = "error",
        token_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0 <= part[0] < part[1] <= 1:
            raise ValueError(f"part: expected 0 <= start < end <= 1, found {part}.")
        if places not in ("random", "tiles") or passes < 1 or seed < 0 or unknown not in ("error", "replace"):
            raise ValueError(
                "TextSource: expected places 'random' or 'tiles', passes >= 1, seed >= 0 and unknown 'error' or "
                f"'replace', found {places!r}, {passes!r}, {seed!r} and {unknown!r}."
            )
        self.codec, self._places, self._seed, self.replaced = codec, places, seed, 0
        own = Path(texts) if isinstance(texts, os.PathLike) else None
        if own is not None and own.is_file() and isinstance(codec.pieces, Bytes) and not codec.documents:
            for _ in read_pieces(own):  # a pass that keeps nothing: the file is UTF-8 or is refused
                pass
            self._tokens, starts = _mapped(own, np.dtype(np.uint8)), None
        else:
            file = Path(token_file) if token_file is not None else self._temporary()
            starts = self._write(texts, file, unknown == "replace")
            self._tokens = _mapped(file, _dtype(codec))
        self._starts = starts if codec.documents else None
        if self._starts is not None:
            self._length = len(self._starts) - 1
            if not self._length:
                raise DataError("texts: expected at least one document, found none.")
        else:
            low, high = (round(share * len(self._tokens)) for share in part)
            self._tokens = self._tokens[low:high]
            if len(self._tokens) < codec.length:
                raise DataError(
                    f"texts: {len(self._tokens)} tokens are fewer than a window of {codec.length}; "
                    "fit with a shorter length."
                )
            tiles = len(self._tokens) // codec.length
            self._length = tiles if places == "tiles" else tiles * passes

    def __len__(self) -> int:
        return self._length

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts together, without ends and padding."""
        return len(self._tokens)

    def rows(self, indices: Tensor) -> dict[str, Tensor]:
        """The tokens of some rows.

        Args:
            indices: int64 ``(n,)``.

        Returns:
            "tokens" int64 ``(n, length)``; for documents also "mask" bool ``(n, length)``, false on padding.
        """
        rows = indices.cpu().numpy()
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"indices: expected rows from 0 to {len(self) - 1}, found {rows.min()} to {rows.max()}.")
        place = np.arange(self.codec.length)
        if self._starts is None:
            windows = self._tokens[self._firsts(rows)[:, None] + place]
            return {"tokens": torch.from_numpy(windows.astype(np.int64))}
        first, size = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        inside = place < size[:, None]
        assert self.codec.padding is not None
        assert self.codec.end is not None
        tokens = np.full(inside.shape, self.codec.padding, np.int64)
        tokens[inside] = self._tokens[(first[:, None] + place)[inside]]
        tokens[np.arange(len(rows)), size] = self.codec.end
        return {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(place <= size[:, None])}

    def fingerprint(self) -> int:
        """A checksum of all tokens and of what the rows are a function of."""
        name = f"{self.codec.length} {self.codec.documents} {self._places} {self._seed} {len(self)}"
        checksum = zlib.crc32(name.encode())
        for start in range(0, len(self._tokens), _BLOCK):
            checksum = zlib.crc32(np.ascontiguousarray(self._tokens[start : start + _BLOCK]).data, checksum)
        return checksum if self._starts is None else zlib.crc32(self._starts.data, checksum)

    def _firsts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._places == "tiles":
            return rows * self.codec.length
        room = len(self._tokens) - self.codec.length + 1
        return (uniforms(self._seed, rows, 0) * room).astype(np.int64)

    def _temporary(self) -> Path:
        folder = tempfile.mkdtemp(prefix="clarkia-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "tokens"

    def _write(self, texts: str | os.PathLike[str] | Iterable[str], path: Path, replace: bool) -> NDArray[np.int64]:
        """Write the tokens of all texts one after the other; where each begins, and where the last ends."""
        starts, dtype = [0], _dtype(self.codec)
        with replacing(path, overwrite=True) as temporary, open(temporary, "wb") as file:
            for name, text in text_source(texts, self.codec.documents).named():
                try:
                    ids, replaced = self.codec.pieces.cut(text, replace=replace)
                except DataError as error:
                    raise DataError(f"{name}: {error}") from None
                if self.codec.documents:
                    self.codec.finished(ids, name)
                self.replaced += replaced
                file.write(ids.astype(dtype).tobytes())
                starts.append(starts[-1] + len(ids))
        return np.array(starts, np.int64)


def _dtype(codec: TextCodec) -> np.dtype[np.unsignedinteger]:
    """The smallest type that holds the pieces."""
    return np.dtype(np.min_scalar_type(len(codec.pieces) - 1))


def _mapped(path: Path, dtype: np.dtype[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
