"""A user's data and its states, and the way back."""

from clarkia.codecs.table import CodingOptions, Column, TableCodec

__all__ = ["CodingOptions", "Column", "TableCodec"]
