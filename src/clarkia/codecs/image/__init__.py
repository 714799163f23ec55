"""Pictures and their states."""

from .arrays import as_bytes, to_float, to_uint8
from .codec import ImageCodec
from .folders import PictureFolder, Skipped, scan
from .grid import grid, write_grid
from .pictures import read_picture

__all__ = [
    "ImageCodec",
    "PictureFolder",
    "Skipped",
    "as_bytes",
    "grid",
    "read_picture",
    "scan",
    "to_float",
    "to_uint8",
    "write_grid",
]
