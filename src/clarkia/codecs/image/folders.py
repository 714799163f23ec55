"""Folders of pictures: which files, which classes, and which of them cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from clarkia.codecs.image.pictures import SUFFIXES, measure_picture, read_picture
from clarkia.errors import DataError

NOTES = (".txt", ".csv", ".tsv", ".json", ".jsonl")
"""Endings of files that lie beside pictures and say something of them; they are no pictures and no mistake."""

THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Skipped:
    """A file that was left out.

    Attributes:
        path: the file.
        reason: why, as a sentence.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder.

    Attributes:
        root: the folder.
        files: its pictures, in the order of their names.
        sizes: width and height in points of each.
        grey: whether all of them are grey.
        classes: names of the classes, in order; none where the folder is not sorted into classes.
        labels: place of each picture's class in `classes`; none likewise.
        skipped: files that were left out.
    """

    root: Path
    files: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    grey: bool
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """The pictures' paths within the folder, with forward slashes."""
        return tuple(file.relative_to(self.root).as_posix() for file in self.files)


def scan(
    folder: str | os.PathLike[str], *, labelled: bool | None = None, strict: bool = False, verify: bool = False
) -> PictureFolder:
    """Find the pictures in a folder and all folders in it.

    Args:
        folder: the folder. Names that begin with a dot are passed over.
        labelled: whether the folders right in it are classes; by default when every picture lies in one of several.
        strict: refuse a file that is damaged or no picture, rather than leave it out.
        verify: decode every picture once, since the head of a file does not show that its end is missing.

    Raises:
        DataError: no such folder, or no picture in it that can be read; with `strict` any that cannot, by name.
    """
    root = Path(folder)
    files = files_of(root)
    files = [file for file in files if file.suffix.lower() not in NOTES]
    check = _decoded if verify else _measured
    kept, measures, skipped = [], [], []
    for file, found in zip(files, in_threads(check, files), strict=True):
        if isinstance(found, Skipped):
            if strict:
                raise DataError(found.reason)
            skipped.append(found)
        else:
            kept.append(file)
            measures.append(found)
    if not kept:
        told = f"; {skipped[0].reason}" if skipped else f"; their names end in {', '.join(SUFFIXES)}."
        raise DataError(f"{root}: the folder holds no picture that can be read{told}")
    classes, labels = _classes(root, kept, labelled)
    sizes = tuple((width, height) for width, height, _ in measures)
    return PictureFolder(root, tuple(kept), sizes, all(grey for *_, grey in measures), classes, labels, tuple(skipped))


def files_of(folder: Path) -> list[Path]:
    """All files in a folder and the folders in it, by name, but those that begin with a dot.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def in_threads(function: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> Iterator[R]:
    """Results in order, computed by a few threads that run at most a little ahead of whoever takes them."""
    items = iter(items)
    if threads < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(function, item) for item in islice(items, 4 * threads)]
        while waiting:
            done = waiting.pop(0)
            waiting += [pool.submit(function, item) for item in islice(items, 1)]
            yield done.result()


def _measured(file: Path) -> tuple[int, int, bool] | Skipped:
    if file.suffix.lower() not in SUFFIXES:
        return Skipped(file, f"{file}: is no picture; their names end in {', '.join(SUFFIXES)}.")
    try:
        return measure_picture(file)
    except DataError as error:
        return Skipped(file, str(error))


def _decoded(file: Path) -> tuple[int, int, bool] | Skipped:
    found = _measured(file)
    if isinstance(found, Skipped):
        return found
    try:
        read_picture(file)
    except DataError as error:
        return Skipped(file, str(error))
    return found


def _classes(root: Path, files: list[Path], labelled: bool | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tops = [file.relative_to(root).parts for file in files]
    sorted_out = all(len(parts) > 1 for parts in tops)
    if labelled is None:
        labelled = sorted_out and len({parts[0] for parts in tops}) > 1
    if not labelled:
        return (), ()
    if not sorted_out:
        lost = next(file for file, parts in zip(files, tops, strict=True) if len(parts) == 1)
        raise DataError(f"{lost}: the picture is in none of the folders that are classes; move it into one.")
    classes = tuple(sorted({parts[0] for parts in tops}))
    place = {name: code for code, name in enumerate(classes)}
    return classes, tuple(place[parts[0]] for parts in tops)
