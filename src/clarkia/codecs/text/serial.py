"""A text codec as JSON, and back from values that nobody vouches for."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clarkia.codecs.text.tokens import MAX_MERGES, BytePairs, Bytes, Characters, Pieces
from clarkia.errors import DataError

_Piece = Annotated[int, Field(ge=0, lt=256 + MAX_MERGES)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CharacterPart(_Part):
    """`Characters`."""

    kind: Literal["char"] = "char"
    characters: Annotated[str, Field(min_length=1, max_length=0x110000)]


class BytePart(_Part):
    """`Bytes`."""

    kind: Literal["byte"] = "byte"


class PairPart(_Part):
    """`BytePairs`."""

    kind: Literal["bpe"] = "bpe"
    merges: Annotated[list[Annotated[list[_Piece], Field(min_length=2, max_length=2)]], Field(max_length=MAX_MERGES)]


class CodecPart(_Part):
    """A codec."""

    format: Annotated[int, Field(ge=1, le=1)]
    length: int
    documents: bool
    pieces: Annotated[CharacterPart | BytePart | PairPart, Field(discriminator="kind")]


def to_json(pieces: Pieces, length: int, documents: bool) -> dict[str, Any]:
    """The parts of a codec as JSON values."""
    if isinstance(pieces, Characters):
        part: CharacterPart | BytePart | PairPart = CharacterPart(characters=pieces.characters)
    elif isinstance(pieces, BytePairs):
        part = PairPart(merges=[list(pair) for pair in pieces.merges])
    else:
        part = BytePart()
    return CodecPart(format=1, length=length, documents=documents, pieces=part).model_dump(mode="json")


def from_json(values: Any) -> tuple[Pieces, int, bool]:
    """Invert `to_json`, checking everything.

    Raises:
        DataError: values that are no codec; the message says where.
    """
    try:
        part = CodecPart.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if isinstance(part.pieces, BytePart):
        return Bytes(), part.length, part.documents
    if isinstance(part.pieces, PairPart):
        return BytePairs(tuple((left, right) for left, right in part.pieces.merges)), part.length, part.documents
    characters = part.pieces.characters
    if any(one >= two for one, two in pairwise(characters)):
        raise _damaged("its characters are out of order")
    if any(0xD800 <= ord(character) < 0xE000 for character in characters):
        raise _damaged("its characters are no characters")
    return Characters(characters), part.length, part.documents


def _damaged(complaint: str) -> DataError:
    return DataError(f"The codec is damaged or was altered ({complaint}); save the model again.")
