"""Which kind of data a path holds, and so which kind of model is made of it."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..shards import is_table_folder
from .outputs import is_table

_TEXTS = (".txt", ".text", ".md")
_ARRAYS = (".npy", ".npz")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Kind(StrEnum):
    """The kinds of data."""

    table = "table"
    image = "image"
    text = "text"


PLURALS = {Kind.table: "tables", Kind.image: "pictures", Kind.text: "texts"}


def refuse_others(kind: Kind, own: Mapping[Kind, Mapping[str, Any]]) -> None:
    """Refuse options that another kind of data has.

    Args:
        kind: what the data are, or what the model is of.
        own: the options that each kind alone has, with their values; those that are not given are false.

    Raises:
        DataError: one of another kind is given.
    """
    for other, options in own.items():
        for name, value in options.items():
            if other is not kind and value:
                option = f"--{name.replace('_', '-')}"
                raise DataError(f"{option} is for {PLURALS[other]}, and these are {PLURALS[kind]}; leave it out")


def kind_of(path: Path) -> Kind:
    """The kind that a path's name, or what lies in a folder, says.

    Raises:
        DataError: there is nothing there, or a folder holds neither pictures nor texts, or both.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}; check its name")
    if is_table_folder(path):
        return Kind.table
    if path.is_dir():
        return _of_folder(path)
    ending = path.suffix.lower()
    if ending in _TEXTS:
        return Kind.text
    if ending in _ARRAYS:
        return Kind.image
    if is_table(path):
        return Kind.table
    known = (
        "a table such as .csv, a text such as .txt, an array of pictures .npy, or a folder of pictures, texts or "
        "Parquet files"
    )
    raise DataError(f"cannot tell what {path} holds by its name; give {known}, or say it with --kind")


def _of_folder(folder: Path) -> Kind:
    endings = {file.suffix.lower() for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")}
    # Texts beside pictures are what is said of them.
    if endings & set(_PICTURES):
        return Kind.image
    if endings & set(_TEXTS):
        return Kind.text
    raise DataError(f"{folder} holds no pictures ({', '.join(_PICTURES)}) and no texts ({', '.join(_TEXTS)})")
