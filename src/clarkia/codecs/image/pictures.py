"""One picture file as points: opened with care, whatever its mode, and cut to a square."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clarkia.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Mode: TypeAlias = Literal["L", "RGB"]
CHANNELS: dict[Mode, int] = {"L": 1, "RGB": 3}

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of the names of files that are read as pictures."""

MAX_POINTS = 100_000_000
"""A picture of more points is refused: its file may be a small one made to fill the memory."""

# Readers that decode points and do nothing else; others start programs or fetch files.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
# What Pillow's readers raise on damaged files.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error)
GREYS = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def read_picture(path: str | os.PathLike[str], mode: Mode = "RGB", size: int | None = None) -> NDArray[np.uint8]:
    """Read a picture file; of several pictures in a file the first.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF or TIFF file.
        mode: "L" (grey) or "RGB".
        size: side in points that the middle of the picture is brought to; None leaves it as it is.

    Returns:
        ``(height, width)`` or ``(height, width, 3)``; upright, transparency on white.

    Raises:
        DataError: the file cannot be read, is damaged, is no picture or has more than `MAX_POINTS` points.
    """
    with _opened(path) as picture:
        if size is not None:
            # JPEG files are decoded at a half, a quarter or an eighth where that leaves four times the size.
            picture.draft(None, (4 * size, 4 * size))
        return np.asarray(prepared(picture, mode, size))


def measure_picture(path: str | os.PathLike[str]) -> tuple[int, int, bool]:
    """Width, height and whether a picture file is grey, from its head alone.

    Raises:
        DataError: as `read_picture`, as far as the head tells.
    """
    from PIL import Image

    with _opened(path) as picture:
        width, height = picture.size
        # The method of all pictures: that of PNG files would decode the whole file to look behind its points.
        if Image.Image.getexif(picture).get(0x0112) in (5, 6, 7, 8):  # orientations that exchange width and height
            width, height = height, width
        return width, height, picture.mode in GREYS


def prepared(picture: Picture, mode: Mode, size: int | None = None) -> Picture:
    """A picture upright, on white where it is transparent, in a mode, and cut to a square where a size is given.

    Raises:
        DataError: values that are no brightness.
    """
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    picture = in_mode(picture, mode)
    return picture if size is None else squared(picture, size)


def in_mode(picture: Picture, mode: Mode) -> Picture:
    """A picture of any mode as grey or red, green and blue.

    Raises:
        DataError: whole numbers beyond 16 bits, or floating numbers that do not lie from 0 to 1.
    """
    from PIL import Image

    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.size and not (values.min() >= 0 and values.max() <= 65535):
            raise DataError(f"values lie from {values.min()} to {values.max()}; save it with 8 or 16 bits a channel")
        picture = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    elif picture.mode == "F":
        values = np.asarray(picture)
        if values.size and not (values.min() >= 0 and values.max() <= 1):  # a NaN is neither
            raise DataError(f"values lie from {values.min()} to {values.max()}; save it with values from 0 to 1")
        picture = Image.fromarray(np.rint(values * 255).astype(np.uint8))
    elif picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == mode else picture.convert(mode)


def squared(picture: Picture, size: int) -> Picture:
    """The largest square in the middle of a picture at a size, with antialiasing; a picture of that size as it is."""
    from PIL import Image

    width, height = picture.size
    if (width, height) == (size, size):
        return picture
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Picture]:
    """Open a picture file for reading its head and maybe its points; all that is wrong with it is a `DataError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_POINTS:
                raise Image.DecompressionBombError
            yield picture
    except DataError as error:
        raise DataError(f"{path}: {error}.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: the picture has more than {MAX_POINTS} points; scale it down first.") from None
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: the picture is damaged or of an unknown kind.") from None
    except _DAMAGE as error:
        reason = str(error).replace(str(path), "the file").strip(".")
        raise DataError(f"{path}: the picture is damaged or of an unknown kind ({reason}).") from None
