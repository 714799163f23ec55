"""Pictures and what is said of them, from wherever a user has them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from clarkia.adapters.images import ImageFolderSource, has_captions, read_attributes, read_captions
from clarkia.codecs.image import ImageCodec, PictureFolder, Skipped, scan
from clarkia.errors import DataError
from clarkia.training.sources import InMemory, Source
from clarkia.training.views import Joined

CLASS = "class"
"""Name of the attribute that `y` is, and that the folders of a folder sorted into classes are."""

IN_MEMORY = 2**30
"""Bytes of coded pictures up to which they are coded once; beyond, whenever they are wanted."""

_ARRAYS = (".npy", ".npz")

File: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures to fit.

    Attributes:
        images: an array, a list of files or of Pillow images, or what was found in a folder.
        attributes: by name a value a picture.
        captions: one a picture, or None.
        skipped: files that were left out.
    """

    images: Any
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    captions: Sequence[str | None] | None = None
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def coded(self, codec: ImageCodec, said: Mapping[str, Tensor]) -> Source:
        """Bytes ``image`` beside what is said of them, in memory or as they are wanted."""
        size = len(self) * codec.channels * codec.size**2
        if isinstance(self.images, PictureFolder) and size > IN_MEMORY:
            return Joined(ImageFolderSource(self.images, codec), dict(said))
        return InMemory({"image": codec.encode(self.images), **said})


def gathered(
    X: Any,
    y: Sequence[Any] | None = None,
    attributes: Mapping[str, Sequence[Any]] | File | None = None,
    captions: Sequence[str | None] | File | None = None,
    *,
    strict: bool = False,
) -> Pictures:
    """Pictures of any kind with all that is said of them, checked to be of one length.

    Args:
        X: `Pictures`, a folder, a NumPy file, an array, or a list of files or of Pillow images.
        y: a class a picture.
        attributes: by name a value a picture, or a table of a folder's pictures. A folder's own are found.
        captions: one a picture, or a table of a folder's pictures. A folder's own are found.
        strict: refuse files that cannot be read, and pictures that a table lacks.

    Raises:
        DataError: lengths that differ, or a folder or file that cannot be read.
    """
    if isinstance(X, Pictures):
        return X
    images, skipped = X, ()
    if isinstance(X, str | os.PathLike):
        path = Path(X)
        # Every file is decoded once, so that a damaged one is found now rather than in an hour.
        images = _array(path) if path.suffix.lower() in _ARRAYS else scan(path, strict=strict, verify=True)
    if isinstance(images, PictureFolder):
        skipped = images.skipped
    named = _attributes(images, attributes, strict) | ({} if y is None else {CLASS: y})
    told = _captions(images, captions, strict)
    _check_lengths(len(images), named, told)
    return Pictures(images, {name: _plain(values) for name, values in named.items()}, told, skipped)


def _attributes(
    images: Any, given: Mapping[str, Sequence[Any]] | File | None, strict: bool
) -> dict[str, Sequence[Any]]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(images, PictureFolder):
        return dict(read_attributes(images, given, strict=strict))
    if given is not None:
        raise DataError("attributes: a table names the pictures of a folder; give a value for each picture instead")
    return {}


def _captions(images: Any, given: Sequence[str | None] | File | None, strict: bool) -> Sequence[str | None] | None:
    is_file = isinstance(given, str | os.PathLike)
    if isinstance(images, PictureFolder) and (is_file or (given is None and has_captions(images))):
        return read_captions(images, given if is_file else None, strict=strict)  # type: ignore[arg-type]
    if is_file:
        raise DataError("captions: a table names the pictures of a folder; give a sentence for each picture instead")
    return given  # type: ignore[return-value]


def _check_lengths(rows: int, named: Mapping[str, Sequence[Any]], captions: Sequence[Any] | None) -> None:
    if rows == 0:
        raise DataError("there are no pictures to learn from")
    columns = {**named, **({} if captions is None else {"captions": captions})}
    for name, values in columns.items():
        if len(values) != rows:
            raise DataError(f"{name}: expected one for each of the {rows} pictures, found {len(values)}")


def _array(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                if len(found.files) != 1:
                    raise DataError(f"{path}: expected one array, found {', '.join(found.files) or 'none'}")
                return found[found.files[0]]
        return found
    except DataError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: the file is damaged or holds no plain array ({error})") from None


def _plain(values: Sequence[Any]) -> list[Any]:
    """Values as Python's own: arrays and series have types of theirs, and NaN where nothing is known."""
    plain = values.tolist() if hasattr(values, "tolist") else list(values)  # type: ignore[union-attr]
    return [None if isinstance(value, float) and value != value else value for value in plain]
