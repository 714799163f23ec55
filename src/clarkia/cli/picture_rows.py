"""Pictures as rows of a table, in the layout that Hugging Face datasets reads as pictures."""

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

COLUMN = "image"

PICTURES_PER_WRITE = 256
"""Rows of a group in the file, and most encoded pictures in memory."""


def picture_name(number: int) -> str:
    """The name of the file that a picture is, or would be: "000007.png"."""
    return f"{number:06d}.png"


def picture_schema(asked: Mapping[str, str]) -> "pa.Schema":
    """The columns: the picture, a struct of its PNG bytes and its name, and what was asked of all pictures.

    Raises:
        DataError: something asked for has the name of the pictures' own column.
    """
    import pyarrow as pa

    if COLUMN in asked:
        raise DataError(f"--given {COLUMN}=... has no place in Parquet, where {COLUMN!r} is the picture; write a .npy")
    picture = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field(COLUMN, picture), *(pa.field(name, pa.string()) for name in asked)]
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in asked}
    features = {COLUMN: {"_type": "Image"}, **features}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def picture_rows(pictures: "np.ndarray", first: int, asked: Mapping[str, str]) -> "pa.Table":
    """Pictures as rows.

    Args:
        pictures: uint8 ``(n, h, w)`` or ``(n, h, w, 3)``.
        first: number of the first, from which their names are made.
        asked: what was asked of all of them, by column.
    """
    import pyarrow as pa

    cells = [{"bytes": _png(points), "path": picture_name(first + row)} for row, points in enumerate(pictures)]
    columns = {COLUMN: cells} | {name: [value] * len(cells) for name, value in asked.items()}
    return pa.table(columns, schema=picture_schema(asked))


def _png(points: "np.ndarray") -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(points).save(stream, format="PNG")
    return stream.getvalue()
