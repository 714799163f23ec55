"""Arrays of pictures in any of their layouts, as bytes with channels first."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from clarkia.errors import DataError

Layout: TypeAlias = Literal["first", "last"]
_CHANNELS = (1, 3, 4)


def is_array(pictures: Any) -> bool:
    """Whether pictures are given as one array or tensor."""
    return hasattr(pictures, "ndim") and hasattr(pictures, "dtype")


def as_bytes(pictures: Any, layout: Layout | None = None) -> NDArray[np.uint8]:
    """Pictures as bytes from 0 to 255.

    Args:
        pictures: uint8, bool or floating numbers from 0 to 1, ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``, with
            1, 3 or 4 channels; the fourth is opacity, and what lies behind is white.
        layout: where the channels are, first or last; found out where only one of them can be.

    Returns:
        ``(n, c, h, w)`` with 1 or 3 channels.

    Raises:
        DataError: another shape, type or range; the message says what to do.
    """
    array = np.asarray(pictures.detach().cpu().numpy() if hasattr(pictures, "detach") else pictures)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        array = _channels_first(array, layout)
    else:
        raise DataError(f"images: expected shape (n, h, w), (n, h, w, c) or (n, c, h, w), found {array.shape}.")
    if not min(array.shape[2:]):
        raise DataError(f"images: expected pictures with points, found shape {array.shape}.")
    return _on_white(_bytes(array))


def to_modes(array: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Bytes ``(n, 1 or 3, h, w)`` with another number of channels; grey is the brightness that the eye sees."""
    if array.shape[1] == channels:
        return array
    if channels == 3:
        return np.repeat(array, 3, 1)
    # The weights of ITU-R 601 in steps of 2**-16, rounded, as Pillow has them.
    weights = np.array([19595, 38470, 7471], np.uint32)
    grey = np.einsum("nchw,c->nhw", array.astype(np.uint32), weights) + 32768
    return (grey >> 16).astype(np.uint8)[:, None]


def to_float(images: UInt8[Tensor, "..."], dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Bytes from 0 to 255 as floating numbers from -1 to 1."""
    return images.to(dtype) / 127.5 - 1


def to_uint8(images: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Floating numbers from -1 to 1 as bytes from 0 to 255; what lies beyond is cut off. Inverts `to_float` exactly.

    Raises:
        ValueError: a NaN.
    """
    if bool(images.isnan().any()):
        raise ValueError("images: expected numbers, found a NaN.")
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _channels_first(array: NDArray[Any], layout: Layout | None) -> NDArray[Any]:
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if layout is None:
        if first == last:
            found = "both may be" if first else "neither can be"
            raise DataError(
                f"images: of shape {array.shape}, channels may be first or last, and {found}; give 1, 3 or 4 channels"
                ' and say which with layout="first" or layout="last".'
            )
        layout = "first" if first else "last"
    if not (first if layout == "first" else last):
        raise DataError(f"images: expected 1, 3 or 4 channels {layout}, found shape {array.shape}.")
    return array if layout == "first" else array.transpose(0, 3, 1, 2)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise DataError(
            f"images: expected uint8, bool or floating numbers, found {array.dtype}; convert them to uint8."
        )
    if array.size:
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # a NaN is neither
            raise DataError(
                f"images: expected floating numbers from 0 to 1, found {low} to {high}; divide them by the largest, "
                "or give uint8."
            )
    return np.rint(array * 255).astype(np.uint8)


def _on_white(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.shape[1] != 4:
        return array
    colour, opacity = array[:, :3].astype(np.float32), array[:, 3:].astype(np.float32) / 255
    return np.rint(colour * opacity + 255 * (1 - opacity)).astype(np.uint8)
