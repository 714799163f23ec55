"""An image codec as JSON, and back from values that nobody vouches for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clarkia.codecs.image.pictures import Mode
from clarkia.errors import DataError


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CodecPart(_Part):
    """A codec."""

    format: Annotated[int, Field(ge=1, le=1)]
    size: int
    mode: Literal["L", "RGB"]


def to_json(size: int, mode: Mode) -> dict[str, Any]:
    """The parts of a codec as JSON values."""
    return CodecPart(format=1, size=size, mode=mode).model_dump(mode="json")


def from_json(values: Any) -> tuple[int, Mode]:
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
    return part.size, part.mode
