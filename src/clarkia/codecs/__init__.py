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
from clarkia.codecs.table import CodingOptions, Column, Evidence, TableCodec

__all__ = [
    "Between",
    "CodingOptions",
    "Column",
    "Condition",
    "Equal",
    "Evidence",
    "Missing",
    "NotMissing",
    "OneOf",
    "TableCodec",
    "intersect",
    "parse",
    "render",
]
