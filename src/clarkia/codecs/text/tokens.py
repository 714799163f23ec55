"""Three ways to cut text into pieces: characters, bytes, and byte pairs that often stand together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from clarkia.errors import DataError

Ids = NDArray[np.int64]

MAX_PIECE = 256
"""Most bytes of a pair's piece: merges of merges would grow without bound."""

MAX_MERGES = 1 << 18


class Pieces(Protocol):
    """A way to cut text into numbered pieces, and back."""

    @property
    def kind(self) -> Literal["char", "byte", "bpe"]:
        """What a piece is."""
        ...

    def __len__(self) -> int: ...

    def cut(self, text: str, *, replace: bool = False) -> tuple[Ids, int]:
        """Numbers of the pieces of a text, and how many characters were replaced.

        Raises:
            DataError: a character that has no number, where it is not to be replaced.
        """
        ...

    def join(self, ids: Ids) -> str:
        """The text of some pieces."""
        ...


@final
@dataclass(frozen=True)
class Characters:
    """A piece a character.

    Attributes:
        characters: those known, in the order of their code points.
    """

    characters: str
    kind: Literal["char"] = "char"

    def __len__(self) -> int:
        return len(self.characters)

    def cut(self, text: str, *, replace: bool = False) -> tuple[Ids, int]:
        """Numbers of the characters of a text; unknown ones become a space or, without one, the first character."""
        points = _code_points(text)
        ids = np.searchsorted(self._points, points)
        ids = np.minimum(ids, len(self._points) - 1)
        unknown = np.flatnonzero(self._points[ids] != points)
        if len(unknown) and not replace:
            at = int(unknown[0])
            raise DataError(
                f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at} is not among the "
                f"{len(self)} that the model knows; replace it."
            )
        ids[unknown] = max(self.characters.find(" "), 0)
        return ids, len(unknown)

    def join(self, ids: Ids) -> str:
        """The text of some characters."""
        return self._points[ids].tobytes().decode("utf-32-le")

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        return _code_points(self.characters)


@final
@dataclass(frozen=True)
class Bytes:
    """A piece a byte of UTF-8."""

    kind: Literal["byte"] = "byte"

    def __len__(self) -> int:
        return 256

    def cut(self, text: str, *, replace: bool = False) -> tuple[Ids, int]:
        """The bytes of a text; half a surrogate pair becomes a question mark."""
        data, replaced = _utf8(text, replace)
        return np.frombuffer(data, np.uint8).astype(np.int64), replaced

    def join(self, ids: Ids) -> str:
        """The text of some bytes; those that make no character become U+FFFD."""
        return ids.astype(np.uint8).tobytes().decode("utf-8", errors="replace")


@final
@dataclass(frozen=True)
class BytePairs:
    """Bytes, and pairs of pieces that often stand together; any text can be cut and comes back exactly.

    Attributes:
        merges: the pairs, as numbers of pieces, in the order in which they are joined.

    Raises:
        DataError: a pair of pieces that come later, or of more than `MAX_PIECE` bytes.

    Source: Neural Machine Translation of Rare Words with Subword Units (2016).
    """

    merges: tuple[tuple[int, int], ...]
    kind: Literal["bpe"] = "bpe"

    def __post_init__(self) -> None:
        _ = self._listed

    @cached_property
    def _listed(self) -> tuple[bytes, ...]:
        """The bytes of every piece."""
        if len(self.merges) > MAX_MERGES:
            raise DataError(f"merges: expected at most {MAX_MERGES}, found {len(self.merges)}.")
        pieces = {bytes([value]): value for value in range(256)}
        listed = list(pieces)
        for place, (left, right) in enumerate(self.merges):
            if not (0 <= left < len(listed) and 0 <= right < len(listed)):
                raise DataError(f"merges: pair {place}, {left} and {right}, joins pieces that do not exist yet.")
            piece = listed[left] + listed[right]
            if len(piece) > MAX_PIECE:
                raise DataError(f"merges: pair {place} makes a piece of {len(piece)} bytes, more than {MAX_PIECE}.")
            if piece not in pieces:  # two pairs may make the same piece
                pieces[piece] = len(listed)
                listed.append(piece)
        return tuple(listed)

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> BytePairs:
        """Find the pairs that most often stand together.

        Args:
            texts: what to learn from.
            size: most pieces, the 256 bytes included.

        Raises:
            ImportError: the extra "text" is not installed.
        """
        tokenizers = _tokenizers()
        learner = tokenizers.Tokenizer(tokenizers.models.BPE())
        learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = _alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=list(alphabet), show_progress=False, max_token_length=MAX_PIECE
        )
        learner.train_from_iterator(texts, trainer)
        byte_of = {sign: bytes([value]) for value, sign in enumerate(alphabet)}
        pieces = {bytes([value]): value for value in range(256)}
        merges = []
        for left, right in _merges(learner):
            one, two = (b"".join(byte_of[sign] for sign in signs) for signs in (left, right))
            merges.append((pieces[one], pieces[two]))
            pieces.setdefault(one + two, len(pieces))
        return cls(tuple(merges))

    def __len__(self) -> int:
        return len(self._listed)

    def cut(self, text: str, *, replace: bool = False) -> tuple[Ids, int]:
        """Numbers of the pieces of a text; half a surrogate pair becomes a question mark."""
        data, replaced = _utf8(text, replace)
        return np.array(self._cutter.encode(data.decode("utf-8")).ids, np.int64), replaced

    def join(self, ids: Ids) -> str:
        """The text of some pieces; bytes that make no character become U+FFFD."""
        return b"".join(self._listed[piece] for piece in ids.tolist()).decode("utf-8", errors="replace")

    @cached_property
    def _cutter(self) -> Any:
        tokenizers = _tokenizers()
        alphabet = _alphabet()
        signs = ["".join(alphabet[value] for value in piece) for piece in self._listed]
        model = tokenizers.models.BPE(
            vocab={sign: place for place, sign in enumerate(signs)},
            merges=[(signs[left], signs[right]) for left, right in self.merges],
        )
        cutter = tokenizers.Tokenizer(model)
        cutter.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return cutter


def _merges(learner: Any) -> list[Sequence[str]]:
    """The pairs of a trained tokenizer, which some versions write as one text with a space."""
    import json

    found = json.loads(learner.to_str())["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in found]


def _alphabet() -> list[str]:
    """The printed sign that stands for each byte in byte-level vocabularies.

    Bytes that print in Latin-1 stand for themselves; the others take the code points from 256 on, in order.
    """
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(256, 512))
    return [chr(value) if value in prints else chr(next(spare)) for value in range(256)]


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ImportError("Byte pairs need the extra 'text': pip install 'clarkia[text]'.") from error
    return tokenizers


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def _utf8(text: str, replace: bool) -> tuple[bytes, int]:
    try:
        return text.encode("utf-8"), 0
    except UnicodeEncodeError as error:
        if not replace:
            raise DataError(
                f"the character U+{ord(text[error.start]):04X} at position {error.start} is half of a surrogate "
                "pair and no character of its own; replace it."
            ) from None
        return text.encode("utf-8", errors="replace"), sum(0xD800 <= ord(character) < 0xE000 for character in text)
