"""Pictures as states: bytes of one size and mode."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from clarkia import spaces
from clarkia.codecs.image import serial
from clarkia.codecs.image.arrays import Layout, as_bytes, is_array, to_modes, to_uint8
from clarkia.codecs.image.folders import PictureFolder, in_threads, scan
from clarkia.codecs.image.pictures import CHANNELS, GREYS, Mode, measure_picture, prepared, read_picture
from clarkia.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

STEP = 4
"""Sizes are multiples of this, so that a network can halve them twice."""

MAX_SIZE = 4096
_LARGEST_DEFAULT = 256  # a folder of photographs is not meant to be learnt at their full size


@final
@dataclass(frozen=True)
class ImageCodec:
    """A map between pictures and bytes of one size; make one with `ImageCodec.fit`.

    A picture of this size and mode comes back exactly; any other is turned upright, put on white where it is
    transparent, cut to the largest square in its middle and brought to the size with antialiasing.

    Attributes:
        size: side in points, a multiple of 4.
        mode: "L" (grey) or "RGB".
    """

    size: int
    mode: Mode = "RGB"

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        if not whole or not STEP <= self.size <= MAX_SIZE or self.size % STEP:
            raise DataError(f"size: expected a multiple of {STEP} up to {MAX_SIZE}, found {self.size!r}.")
        if self.mode not in CHANNELS:
            raise DataError(f"mode: expected 'L' or 'RGB', found {self.mode!r}.")

    @classmethod
    def fit(
        cls,
        pictures: Any,
        *,
        size: int | None = None,
        mode: Mode | None = None,
        layout: Layout | None = None,
        strict: bool = False,
    ) -> ImageCodec:
        """Find out the size and the mode.

        Args:
            pictures: an array (`as_bytes` says which), a folder or what `scan` found in it, a list of files or of
                Pillow images.
            size: side in points; the most common shorter side if not given, to the next multiple of 4 up to 256.
            mode: "L" or "RGB"; grey if not given where all pictures are.
            layout: where an array has its channels.
            strict: refuse a file that is damaged or no picture, rather than leave it out.

        Raises:
            DataError: nothing to fit on, or an option that cannot be.
        """
        if isinstance(pictures, str | os.PathLike):
            pictures = scan(pictures, strict=strict)
        sides, grey = _measures(pictures, layout)
        if size is None:
            common = Counter(sides).most_common(1)[0][0]
            size = min(_LARGEST_DEFAULT, max(STEP, STEP * ((common + STEP // 2) // STEP)))
        return cls(size, mode or ("L" if grey else "RGB"))

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return CHANNELS[self.mode]

    @property
    def space(self) -> spaces.Continuous:
        """The space of the pictures as floating numbers."""
        return spaces.Continuous((self.channels, self.size, self.size))

    def encode(self, pictures: Any, *, layout: Layout | None = None) -> UInt8[Tensor, "n c size size"]:
        """Pictures as bytes.

        Args:
            pictures: as in `fit`; of any sizes and modes. What cannot be read of a folder is left out.
            layout: where an array has its channels.

        Raises:
            DataError: a picture that cannot be read, by its file or its place.
        """
        if is_array(pictures):
            return torch.from_numpy(self._resized(to_modes(as_bytes(pictures, layout), self.channels)))
        if isinstance(pictures, str | os.PathLike):
            pictures = scan(pictures, verify=True)
        items: Iterable[Any] = pictures.files if isinstance(pictures, PictureFolder) else pictures
        return torch.from_numpy(self._stacked(in_threads(self._points, enumerate(items))))

    def decode(self, state: Tensor) -> NDArray[np.uint8]:
        """Pictures from states.

        Args:
            state: uint8, or floating numbers from -1 to 1, ``(n, c, size, size)``.

        Returns:
            ``(n, size, size)`` or ``(n, size, size, 3)``, from 0 to 255.

        Raises:
            ValueError: another shape, or a NaN.
        """
        if state.ndim != 4 or tuple(state.shape[1:]) != self.space.shape:
            raise ValueError(
                f"state: expected shape (n, {self.channels}, {self.size}, {self.size}), found {tuple(state.shape)}."
            )
        points = state if state.dtype == torch.uint8 else to_uint8(state)
        array = points.detach().cpu().numpy()
        return array[:, 0] if self.mode == "L" else np.ascontiguousarray(array.transpose(0, 2, 3, 1))

    def pictures(self, state: Tensor) -> list[Picture]:
        """Pillow images from states, as of `decode`."""
        from PIL import Image

        return [Image.fromarray(array) for array in self.decode(state)]

    def to_json(self) -> dict[str, Any]:
        """The codec as JSON values."""
        return serial.to_json(self.size, self.mode)

    @classmethod
    def from_json(cls, values: Any) -> ImageCodec:
        """Invert `to_json`, checking everything.

        Raises:
            DataError: values that are no codec.
        """
        return cls(*serial.from_json(values))

    def _points(self, placed: tuple[int, Any]) -> NDArray[np.uint8]:
        place, item = placed
        if isinstance(item, str | os.PathLike):
            return read_picture(item, self.mode, self.size)
        if not hasattr(item, "getexif"):
            raise DataError(f"pictures: expected files or Pillow images, found {type(item).__name__} at place {place}.")
        try:
            return np.asarray(prepared(item, self.mode, self.size))
        except (OSError, ValueError) as error:
            raise DataError(f"pictures: the image at place {place} cannot be used ({error}).") from None

    def _resized(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if array.shape[2:] == (self.size, self.size):
            return np.ascontiguousarray(array)
        from PIL import Image

        flat = array[:, 0] if self.mode == "L" else np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        return self._stacked(in_threads(self._points, enumerate(map(Image.fromarray, flat))))

    def _stacked(self, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Pictures with or without a last axis of channels as one array with channels first."""
        found = [points[None] if points.ndim == 2 else points.transpose(2, 0, 1) for points in pictures]
        return np.stack(found) if found else np.empty((0, self.channels, self.size, self.size), np.uint8)


def _measures(pictures: Any, layout: Layout | None) -> tuple[list[int], bool]:
    """Shorter sides of pictures, and whether all are grey."""
    if is_array(pictures):
        array = as_bytes(pictures[:1], layout)
        sides, grey = [min(array.shape[2:])] * len(pictures), array.shape[1] == 1
    elif isinstance(pictures, PictureFolder):
        sides, grey = [min(size) for size in pictures.sizes], pictures.grey
    else:
        found = [
            measure_picture(one) if isinstance(one, str | os.PathLike) else (*one.size, one.mode in GREYS)
            for one in pictures
        ]
        sides, grey = [min(width, height) for width, height, _ in found], all(grey for *_, grey in found)
    if not sides:
        raise DataError("images: expected at least one picture, found none.")
    return sides, grey
