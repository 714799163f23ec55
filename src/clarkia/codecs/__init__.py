"""A user's data and its states, and the way back."""

from clarkia.codecs.conditions import (
    Between,
    Condition,
    Equal,
    Missing,
    NotMissing,
    OneOf,
    intersect,
    parse,
    render,
)
from clarkia.codecs.image import ImageCodec
from clarkia.codecs.table import CodingOptions, Column, Evidence, TableCodec
from clarkia.codecs.text import TextCodec

__all__ = [
    "Between",
    "CodingOptions",
    "Column",
    "Condition",
    "Equal",
    "Evidence",
    "ImageCodec",
    "Missing",
    "NotMissing",
    "OneOf",
    "TableCodec",
    "TextCodec",
    "intersect",
    "parse",
    "render",
]
