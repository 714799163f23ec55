"""Many pictures as one."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarkia.atomic import check_writable, replacing
from clarkia.codecs.image.arrays import Layout, as_bytes

_WHITE = 255


def grid(
    images: Any, *, columns: int | None = None, gap: int = 2, scale: int = 1, layout: Layout | None = None
) -> NDArray[np.uint8]:
    """Pictures side by side, row by row, on white.

    Args:
        images: n pictures as `as_bytes` takes them.
        columns: pictures of a row; as many as make the grid about square if not given.
        gap: points between pictures.
        scale: whole factor by which every point is enlarged.
        layout: where the images have their channels.

    Returns:
        ``(height, width)`` or ``(height, width, 3)``.

    Raises:
        DataError: images of another kind.
        ValueError: no image, or a number below what it can be.
    """
    points = as_bytes(images, layout)
    n, channels, height, width = points.shape
    columns = int(np.ceil(np.sqrt(n))) if columns is None else columns
    if n < 1 or columns < 1 or gap < 0 or scale < 1:
        raise ValueError(
            f"grid: expected images, columns, scale >= 1 and gap >= 0, found {n}, {columns}, {scale}, {gap}."
        )
    columns = min(columns, n)
    points = points.repeat(scale, 2).repeat(scale, 3)
    height, width, rows = height * scale + gap, width * scale + gap, -(-n // columns)
    cells = np.full((rows * columns, channels, height, width), _WHITE, np.uint8)
    cells[:n, :, : height - gap, : width - gap] = points
    whole = cells.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    whole = whole.reshape(rows * height, columns * width, channels)[: rows * height - gap, : columns * width - gap]
    return whole[:, :, 0] if channels == 1 else whole


def write_grid(
    images: Any,
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    gap: int = 2,
    scale: int = 1,
    layout: Layout | None = None,
    overwrite: bool = False,
) -> None:
    """Write pictures side by side as one PNG file, whole or not at all.

    Args:
        images: as of `grid`, like the other arguments.
        path: the file.
        columns: pictures of a row.
        gap: points between pictures.
        scale: whole factor by which every point is enlarged.
        layout: where the images have their channels.
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: images of another kind, or a file that exists or cannot be written.
    """
    from PIL import Image

    check_writable(path, overwrite=overwrite)
    picture = Image.fromarray(grid(images, columns=columns, gap=gap, scale=scale, layout=layout))
    with replacing(path, overwrite=overwrite) as temporary:
        picture.save(temporary, format="PNG")
