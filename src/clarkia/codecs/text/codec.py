"""Texts as states: tokens of a fixed length, documents ended and padded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clarkia import spaces
from clarkia.codecs.text import prompts, serial
from clarkia.codecs.text.sources import text_source
from clarkia.codecs.text.tokens import BytePairs, Bytes, Characters, Ids, Pieces
from clarkia.errors import DataError

MAX_LENGTH = 1 << 20
_WINDOW = 256


@final
@dataclass(frozen=True)
class TextCodec:
    """A map between texts and tokens; make one with `TextCodec.fit`.

    Text goes there and back exactly. Class ``num_classes`` is the mask, which belongs to the process.

    Attributes:
        pieces: how text is cut; tokens below ``len(pieces)`` are pieces.
        length: tokens of a state.
        documents: whether a state is a whole document, ended by the token `end` and filled up with `padding`, rather
            than a window of a long text, all of whose tokens are pieces.
    """

    pieces: Pieces
    length: int
    documents: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.length, int) or isinstance(self.length, bool) or not 1 <= self.length <= MAX_LENGTH:
            raise DataError(f"length: expected a whole number from 1 to {MAX_LENGTH}, found {self.length!r}.")

    @classmethod
    def fit(
        cls,
        texts: str | os.PathLike[str] | Sequence[str],
        kind: Literal["char", "byte", "bpe"] = "char",
        *,
        length: int | None = None,
        documents: bool | None = None,
        num_pieces: int = 4096,
    ) -> TextCodec:
        """Find out the pieces and the length.

        Args:
            texts: one long text; a list of documents; or the `Path` of a text file or of a folder of them.
            kind: pieces are characters, bytes, or byte pairs, which need the extra "text".
            length: tokens of a state; 256 if not given, or for documents the longest with its end.
            documents: whether each text (each line of a file, each file of a folder) is a document of its own; by
                default a list and a folder are documents, a text and a file are not.
            num_pieces: most byte pairs, the 256 bytes included.

        Raises:
            DataError: no text, or an option that cannot be.
        """
        source = text_source(texts, documents)
        if kind == "char":
            known = set().union(*map(set, source.texts()))
            if not known:
                raise DataError("texts: expected at least one character, found none.")
            pieces: Pieces = Characters("".join(sorted(known)))
            pieces.cut(pieces.characters)
        elif kind == "byte":
            pieces = Bytes()
        elif kind == "bpe":
            if num_pieces < 256:
                raise DataError(f"num_pieces: expected at least the 256 bytes, found {num_pieces!r}.")
            pieces = BytePairs.train(source.texts(), num_pieces)
        else:
            raise DataError(f"kind: expected 'char', 'byte' or 'bpe', found {kind!r}.")
        if length is None:
            lengths = (len(pieces.cut(text)[0]) + 1 for text in source.texts()) if source.documents else ()
            length = max(lengths, default=_WINDOW)
        return cls(pieces, length, source.documents)

    @property
    def num_classes(self) -> int:
        """Number of tokens: the pieces and, for documents, the end and the padding."""
        return len(self.pieces) + 2 * self.documents

    @property
    def end(self) -> int | None:
        """The token after the last piece of a document."""
        return len(self.pieces) if self.documents else None

    @property
    def padding(self) -> int | None:
        """The token after the end of a document."""
        return len(self.pieces) + 1 if self.documents else None

    @property
    def space(self) -> spaces.Categorical:
        """The space of the tokens."""
        return spaces.Categorical((self.length,), num_classes=self.num_classes)

    def ids(self, text: str) -> Ids:
        """Tokens of a text as long as it is, without end and padding.

        Raises:
            DataError: a character that the codec does not know; the message names it and its position.
        """
        return self.pieces.cut(text)[0]

    def read(self, text: str) -> tuple[Ids, int]:
        """Tokens of a text as of `ids`, unknown characters replaced, and how many those were."""
        return self.pieces.cut(text, replace=True)

    def encode(self, texts: Sequence[str], *, unknown: Literal["error", "replace"] = "error") -> dict[str, Tensor]:
        """Texts as states.

        Args:
            texts: n of them; windows must have exactly `length` tokens.
            unknown: refuse a character that the codec does not know, or replace it by a space.

        Returns:
            "tokens" int64 ``(n, length)`` and "mask" bool ``(n, length)``, false on padding.

        Raises:
            DataError: an unknown character, or a text of too many tokens (or too few, for a window), by its row.
        """
        if isinstance(texts, str):
            raise DataError("texts: expected a list of texts, found one text; put it into a list.")
        fill = 0 if self.padding is None else self.padding
        tokens = np.full((len(texts), self.length), fill, np.int64)
        mask = np.zeros(tokens.shape, bool)
        for row, text in enumerate(texts):
            ids = self.finished(self._cut(text, row, unknown == "replace"), f"text {row}")
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
        return {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(mask)}

    def finished(self, ids: Ids, name: str) -> Ids:
        """Tokens of a whole text with the end they need.

        Raises:
            DataError: more than `length` of them, or for a window fewer; the message begins with the name.
        """
        ids = ids if self.end is None else np.append(ids, self.end)
        if len(ids) > self.length:
            end = " with its end" if self.documents else ""
            raise DataError(
                f"{name}: has {len(ids)} tokens{end}, and the model's length is {self.length}; shorten it, or fit "
                f"with a length of {len(ids)}."
            )
        if len(ids) < self.length and not self.documents:
            raise DataError(
                f"{name}: has {len(ids)} tokens, and the model was fitted on windows of {self.length}; give longer "
                "texts, or ask for the rest with a condition."
            )
        return ids

    def decode(self, tokens: Int[Tensor, "n length"], *, mask: str | None = None) -> list[str]:
        """Texts from states, each up to its end.

        Args:
            tokens: int64 ``(n, length)``.
            mask: what a masked token is shown as; refused if not given.

        Raises:
            DataError: a token that is masked still, or none of the codec's.
        """
        rows = tokens.detach().cpu().numpy()
        if rows.ndim != 2 or rows.dtype.kind not in "iu":
            raise DataError(f"tokens: expected whole numbers of shape (n, length), found {rows.dtype} of {rows.shape}.")
        bad = np.argwhere((rows < 0) | (rows > self.num_classes) | ((rows == self.num_classes) & (mask is None)))
        if len(bad):
            row, place = bad[0]
            what = "is masked still" if rows[row, place] == self.num_classes else f"is {rows[row, place]}, no token"
            raise DataError(f"tokens: row {row}, position {place} {what}.")
        return [self._joined(row, mask or "") for row in rows]

    def conditions(
        self,
        *,
        prefix: str | None = None,
        suffix: str | None = None,
        infill: str | None = None,
        at: Mapping[int, str] | None = None,
    ) -> tuple[Int[Tensor, " length"], Bool[Tensor, " length"]]:
        """What is known of a text to be written.

        Args:
            prefix: how it begins.
            suffix: how it ends; of a document, before its end token, which is then the last of the length.
            infill: the text with holes to be filled: ``[*]`` takes what is left of the length, ``[*12]`` twelve tokens.
            at: texts by the position of their first token; negative positions count from the end.

        Returns:
            The tokens, int64 ``(length,)``, 0 where nothing is known, and where something is, bool ``(length,)``.

        Raises:
            DataError: an unknown character, texts that do not fit into the length, or two that disagree.
        """
        parts = []
        for name, text in (("prefix", prefix), ("suffix", suffix)):
            if text is not None:
                ids = self._prompt(text, name, ends=name == "suffix")
                parts.append((0 if name == "prefix" else self.length - len(ids), ids, name))
        if infill is not None:
            parts += prompts.laid_out(infill, self.length, self._prompt)
        for position, text in (at or {}).items():
            if not isinstance(position, int) or not -self.length <= position < self.length:
                raise DataError(f"at: expected positions from {-self.length} to {self.length - 1}, found {position!r}.")
            parts.append((position % self.length, self._prompt(text, f"at {position}"), f"at {position}"))
        values, known = prompts.combined(parts, self.length)
        return torch.from_numpy(values), torch.from_numpy(known)

    def to_json(self) -> dict[str, Any]:
        """The codec as JSON values."""
        return serial.to_json(self.pieces, self.length, self.documents)

    @classmethod
    def from_json(cls, values: Any) -> TextCodec:
        """Invert `to_json`, checking everything.

        Raises:
            DataError: values that are no codec.
        """
        return cls(*serial.from_json(values))

    def _cut(self, text: str, row: int, replace: bool) -> Ids:
        try:
            return self.pieces.cut(text, replace=replace)[0]
        except DataError as error:
            raise DataError(f"text {row}: {error}") from None

    def _prompt(self, text: str, name: str, ends: bool = False) -> Ids:
        try:
            ids = self.ids(text)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        return np.append(ids, self.end) if ends and self.end is not None else ids

    def _joined(self, ids: Ids, mask: str) -> str:
        if self.end is not None:
            ends = np.flatnonzero(ids == self.end)
            ids = ids[: ends[0]] if len(ends) else ids
            ids = ids[ids != self.padding]
        holes = np.flatnonzero(ids == self.num_classes)
        cuts = [0, *(holes + 1).tolist(), len(ids) + 1]
        return mask.join(self.pieces.join(ids[low : high - 1]) for low, high in pairwise(cuts))
