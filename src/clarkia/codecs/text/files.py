"""Text files: UTF-8, read whole or piece by piece, and the byte named where they are not."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from clarkia.errors import DataError

SUFFIXES = (".txt", ".text", ".md")
"""Endings of the names of files that are read as texts."""

_BLOCK = 1 << 20


def read_text(path: str | os.PathLike[str]) -> str:
    """All of a text file, its line ends as they are.

    Raises:
        DataError: the file cannot be read or is not UTF-8, with the place of the first byte that is not.
    """
    return "".join(read_pieces(path))


def read_pieces(path: str | os.PathLike[str], block: int = _BLOCK) -> Iterator[str]:
    """A text file in pieces that end with a line, as far as lines are shorter than a block.

    Args:
        path: the file.
        block: bytes read at a time.

    Raises:
        DataError: as `read_text`.
    """
    rest = ""
    for text in _decoded(path, block):
        whole, end, left = (rest + text).rpartition("\n")
        if not end and len(left) > 4 * block:  # a line without end is cut: memory is bounded by the block
            whole, left = left, ""
        rest = left
        if whole or end:
            yield whole + end
    if rest:
        yield rest


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1 on, without their ends; empty ones left out.

    Raises:
        DataError: as `read_text`.
    """
    number, rest = 0, ""
    for text in _decoded(path, _BLOCK):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line.removesuffix("\r")
    if rest.strip():
        yield number + 1, rest


def text_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The text files in a folder and the folders in it, by name.

    Raises:
        DataError: no such folder, or no text in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    found = [file for file in found if not file.name.startswith(".")]
    if not found:
        raise DataError(f"{folder}: the folder holds no texts; their names end in {', '.join(SUFFIXES)}.")
    return found


def _decoded(path: str | os.PathLike[str], block: int) -> Iterator[str]:
    decoder, start = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with open(path, "rb") as file:
            while True:
                data = file.read(block)
                carried = len(decoder.getstate()[0])  # bytes of a character that the last block cut in two
                try:
                    text = decoder.decode(data, final=not data)
                except UnicodeDecodeError as error:
                    at = start - carried + error.start
                    raise DataError(f"{path}: byte {at} is not UTF-8; save the file as UTF-8.") from None
                start += len(data)
                if text:
                    yield text
                if not data:
                    return
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
