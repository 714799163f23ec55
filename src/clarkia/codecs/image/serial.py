"""An image codec as JSON, and back from values that nobody vouches for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clarkia.codecs.image.labels import MAX_VALUES, Attribute
from clarkia.codecs.image.pictures import Mode
from clarkia.errors import DataError


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class AttributePart(_Part):
    """`Attribute`."""

    name: Annotated[str, Field(max_length=10_000)]
    values: Annotated[list[str], Field(min_length=1, max_length=MAX_VALUES)]


class CodecPart(_Part):
    """A codec."""

    format: Annotated[int, Field(ge=1, le=1)]
    size: int
    mode: Literal["L", "RGB"]
    attributes: Annotated[list[AttributePart], Field(max_length=1000)]


def to_json(size: int, mode: Mode, attributes: tuple[Attribute, ...]) -> dict[str, Any]:
    """The parts of a codec as JSON values."""
    parts = [AttributePart(name=one.name, values=list(one.values)) for one in attributes]
    return CodecPart(format=1, size=size, mode=mode, attributes=parts).model_dump(mode="json")


def from_json(values: Any) -> tuple[int, Mode, tuple[Attribute, ...]]:
    """Invert `to_json`, checking the types of everything.

    Raises:
        DataError: values that are no codec; the message says where.
    """
    try:
        part = CodecPart.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"The codec is damaged or was altered ({where}: {first['msg']}); save the model again."
        ) from None
    return part.size, part.mode, tuple(Attribute(one.name, tuple(one.values)) for one in part.attributes)
