"""Folders of pictures as training data: read when they are asked for, and what is said of them in files beside them."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from torch import Tensor

from clarkia.adapters.files import read_table
from clarkia.codecs.image import ImageCodec, PictureFolder, Skipped, scan
from clarkia.codecs.text.files import read_text
from clarkia.errors import DataError

if TYPE_CHECKING:
    pass

_KEYS = ("file", "file_name", "filename", "path", "image", "name")
_WORDS = ("caption", "text", "prompt")
CAPTION_FILES = ("captions.csv", "captions.jsonl")
ATTRIBUTE_FILES = ("attributes.csv", "labels.csv")


@final
class ImageFolderSource:
    """The pictures of a folder as a training source; a batch of them is in memory, never all.

    Args:
        folder: the folder, or what `scan` found in it.
        codec: size and mode; fitted on the folder if not given.
        size: side in points of a codec to be fitted.
        mode: "L" or "RGB" likewise.
        strict: refuse files that cannot be read.
        verify: decode every picture once before the first batch, so that damaged ones are left out.

    Attributes:
        codec: the codec.
        skipped: files that were left out, with reasons.

    Raises:
        DataError: no picture that can be read.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | PictureFolder,
        codec: ImageCodec | None = None,
        *,
        size: int | None = None,
        mode: Any = None,
        strict: bool = False,
        verify: bool = True,
    ) -> None:
        found = isinstance(folder, PictureFolder)
        self._folder = folder if found else scan(folder, strict=strict, verify=verify)
        self.codec = ImageCodec.fit(self._folder, size=size, mode=mode) if codec is None else codec

    def __len__(self) -> int:
        return len(self._folder)

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures' files, a row each."""
        return self._folder.files

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were left out."""
        return self._folder.skipped

    def rows(self, indices: Tensor) -> dict[str, Tensor]:
        """The pictures of some rows.

        Args:
            indices: int64 ``(n,)``.

        Returns:
            "image" uint8 ``(n, c, size, size)``.

        Raises:
            DataError: a file that has been damaged or removed since, by name.
        """
        return {"image": self.codec.encode([self._folder.files[row] for row in indices.tolist()])}

    def fingerprint(self) -> int:
        """A checksum of the names and sizes of the files, and of the codec."""
        names = [(name, file.stat().st_size) for name, file in zip(self._folder.names, self._folder.files, strict=True)]
        return zlib.crc32(json.dumps([names, self.codec.to_json()]).encode())


def read_attributes(folder: PictureFolder, table: Any = None, *, strict: bool = False) -> dict[str, list[str | None]]:
    """What pictures are labelled with, by name of the attribute.

    Args:
        folder: what `scan` found.
        table: a CSV or other table file, a pandas, polars or Arrow table, or None for the table in the folder, then for
            its classes, under the name "class".
        strict: refuse a picture that the table lacks.

    Returns:
        A value a picture for each attribute, None where nothing is known; empty where there is nothing at all.

    Raises:
        DataError: a table without the pictures, or with a picture twice.
    """
    if table is None:
        table = next((folder.root / name for name in ATTRIBUTE_FILES if (folder.root / name).exists()), None)
    if table is None:
        return {"class": [folder.classes[label] for label in folder.labels]} if folder.classes else {}
    where = str(table) if isinstance(table, str | os.PathLike) else "attributes"
    columns = _columns(table)
    key = next((name for name in columns if name.lower() in _KEYS), next(iter(columns)))
    found = _by_name(folder, columns.pop(key), where, strict)
    if not columns:
        raise DataError(f"{where}: expected columns of attributes beside {key!r}, found none.")
    return {
        name: [None if row is None or column[row] is None else str(column[row]) for row in found]
        for name, column in columns.items()
    }


def read_captions(
    folder: PictureFolder, path: str | os.PathLike[str] | None = None, *, strict: bool = False
) -> list[str | None]:
    """What is said of pictures.

    Args:
        folder: what `scan` found.
        path: a CSV or JSON-lines file with the picture in "file" or "path" and the words in "caption" or "text";
            "captions.csv" or "captions.jsonl" in the folder if not given, then a text file beside each picture with its
            name and the ending .txt.
        strict: refuse a picture without a caption.

    Returns:
        A caption a picture, None where there is none.

    Raises:
        DataError: no caption at all, or a file that cannot be read.
    """
    if path is None:
        path = next((folder.root / name for name in CAPTION_FILES if (folder.root / name).exists()), None)
    if path is not None:
        columns = _lines(Path(path)) if Path(path).suffix.lower() == ".jsonl" else _columns(path)
        key, words = (next((name for name in columns if name.lower() in names), None) for names in (_KEYS, _WORDS))
        if key is None or words is None:
            raise DataError(f"{path}: expected the columns 'file' and 'caption', found {', '.join(columns) or 'none'}.")
        places = _by_name(folder, columns[key], str(path), strict)
        found = [None if row is None or columns[words][row] is None else str(columns[words][row]) for row in places]
    else:
        notes = [file.with_suffix(".txt") for file in folder.files]
        found = [read_text(note).strip() if note.exists() else None for note in notes]
    if all(text is None for text in found):
        raise DataError(
            f"{folder.root}: the pictures have no captions; put captions.csv with the columns file and caption into "
            "the folder, or a text file beside each picture."
        )
    missing = next((file for file, text in zip(folder.files, found, strict=True) if text is None), None)
    if strict and missing is not None:
        raise DataError(f"{missing}: the picture has no caption; write one or leave the picture out.")
    return found


def _columns(table: Any) -> dict[str, list[Any]]:
    from clarkia.adapters.frames import to_arrow

    arrow = read_table(table) if isinstance(table, str | os.PathLike) else to_arrow(table)
    return {name: arrow.column(name).to_pylist() for name in arrow.column_names}


def _lines(path: Path) -> dict[str, list[Any]]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = line
        if row is not None and not isinstance(row, Mapping):
            raise DataError(f'{path}: line {number} is no JSON object; write one as {{"file": ..., "caption": ...}}.')
        rows += [row] if row is not None else []
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _by_name(folder: PictureFolder, keys: Sequence[Any], where: str, strict: bool) -> list[int | None]:
    """The row of each picture in a list of their names: paths within the folder, or names alone where those differ."""
    place: dict[str, int] = {}
    for row, key in enumerate(keys):
        name = str(key).replace(os.sep, "/").removeprefix("./")
        if name in place:
            raise DataError(f"{where}: the picture {name!r} appears twice; keep one row of it.")
        place[name] = row
    alone = [file.name for file in folder.files]
    unique = {name for name, times in Counter(alone).items() if times == 1}
    found = []
    for path, name in zip(folder.names, alone, strict=True):
        row = place.get(path, place.get(name) if name in unique else None)
        if row is None and strict:
            raise DataError(f"{where}: the picture {path!r} has no row; add one or leave the picture out.")
        found.append(row)
    if all(row is None for row in found):
        raise DataError(f"{where}: no row names a picture of {folder.root}, such as {folder.names[0]!r}.")
    return found


def has_captions(folder: PictureFolder) -> bool:
    """Whether captions lie in a folder, as a table or as a text file beside a picture."""
    table = any((folder.root / name).exists() for name in CAPTION_FILES)
    return table or any(file.with_suffix(".txt").exists() for file in folder.files)
