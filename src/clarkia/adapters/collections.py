"""Collections from files: arrays, folders of pictures, texts; what `clarkia compare` reads beside tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from clarkia.codecs.image.folders import files_of
from clarkia.codecs.image.pictures import SUFFIXES as _PICTURES
from clarkia.codecs.image.pictures import read_picture
from clarkia.codecs.text.files import SUFFIXES as _TEXTS
from clarkia.codecs.text.files import read_text
from clarkia.errors import DataError
from clarkia.shards import is_table_folder

Kind: TypeAlias = Literal["array", "images", "texts"]

_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class Collection:
    """Rows of one kind.

    Attributes:
        kind: "array", "images" or "texts".
        rows: An array ``(n, d)``; pictures ``(n, size, size, 3)`` from 0 to 1; or a list of n texts.
        names: Where each row comes from, ``n`` of them; empty for rows without names.
    """

    kind: Kind
    rows: Any
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def is_collection(path: str | os.PathLike[str]) -> bool:
    """Whether a path is read by `read_collection` rather than as a table."""
    path = Path(path)
    return (path.is_dir() and not is_table_folder(path)) or path.suffix.lower() in (*_ARRAYS, *_TEXTS)


def read_collection(path: str | os.PathLike[str], *, size: int = 16, progress: bool = False) -> Collection:
    """Read an array, a folder of pictures or of texts, or a file with a text a line.

    Args:
        path: A NumPy file (.npy, or .npz with one array), its first axis the rows; a folder of pictures or of texts,
            with all folders in it; or a text file, each line that is not blank a row.
        size: Side in points that pictures are resized to, with antialiasing.
        progress: Show a progress bar on standard error.

    Raises:
        DataError: No such file, nothing to read in it, a damaged file, an array of objects or with numbers that are
            not finite; the message names the file.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.")
    if not path.is_dir():
        return _array(path) if path.suffix.lower() in _ARRAYS else _lines(path)
    files = files_of(path)
    pictures = [file for file in files if file.suffix.lower() in _PICTURES]
    texts = [file for file in files if file.suffix.lower() in _TEXTS]
    if not pictures and not texts:
        known = ", ".join((*_PICTURES, *_TEXTS))
        raise DataError(f"{path}: the folder holds no pictures and no texts; their names end in {known}.")
    if pictures and texts:
        raise DataError(
            f"{path}: the folder holds {len(pictures)} pictures and {len(texts)} texts; "
            "keep them in folders of their own."
        )
    chosen = tuple(str(file.relative_to(path)) for file in pictures or texts)
    if texts:
        return Collection("texts", [read_text(file) for file in _shown(texts, progress)], chosen)
    return Collection("images", np.stack([_picture(file, size) for file in _shown(pictures, progress)]), chosen)


def _array(path: Path) -> Collection:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                if len(found.files) != 1:
                    raise DataError(f"{path}: expected one array, found {', '.join(found.files) or 'none'}.")
                found = found[found.files[0]]
    except DataError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: the file is damaged or holds no plain array ({error}).") from None
    if found.ndim < 1 or found.dtype.kind not in "biuf" or not len(found):
        raise DataError(f"{path}: expected rows of numbers, found {found.dtype} of shape {found.shape}.")
    rows = found.reshape(len(found), -1).astype(np.float64)
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        row, column = bad[0]
        raise DataError(f"{path}: row {row}, column {column} is {rows[row, column]}; replace it or leave the row out.")
    return Collection("array", rows)


def _lines(path: Path) -> Collection:
    rows = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not rows:
        raise DataError(f"{path}: the file holds no text.")
    return Collection("texts", rows)


def _picture(path: Path, size: int) -> np.ndarray:
    """A picture squeezed into a square: what is compared is the whole of it."""
    from PIL import Image

    whole = Image.fromarray(read_picture(path))
    small = whole.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(small, dtype=np.float32) / 255


def _shown(files: list[Path], progress: bool) -> Iterator[Path]:
    if not progress:
        yield from files
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(files, description=f"reading {files[0].parent.name}", console=Console(stderr=True), transient=True)
