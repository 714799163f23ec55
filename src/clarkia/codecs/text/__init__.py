"""Texts and their states."""

from .codec import TextCodec
from .files import read_text
from .sources import text_source
from .tokens import BytePairs, Bytes, Characters, Pieces

__all__ = ["BytePairs", "Bytes", "Characters", "Pieces", "TextCodec", "read_text", "text_source"]
