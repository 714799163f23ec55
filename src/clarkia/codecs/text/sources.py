"""Texts wherever they are: in a list, a file or a folder, one piece in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clarkia.codecs.text.files import read_lines, read_pieces, read_text, text_files
from clarkia.errors import DataError


@dataclass(frozen=True)
class TextsIn:
    """Texts that can be gone through several times.

    Attributes:
        named: starts a pass over the texts, each with a name for messages.
        documents: whether each is a document of its own rather than a piece of one long text.
    """

    named: Callable[[], Iterator[tuple[str, str]]]
    documents: bool

    def texts(self) -> Iterator[str]:
        """A pass over the texts."""
        return (text for _, text in self.named())


def text_source(texts: str | os.PathLike[str] | Iterable[str], documents: bool | None = None) -> TextsIn:
    """Texts from wherever they are, a piece at a time.

    Args:
        texts: one long text, a list of texts, or the `Path` of a text file or of a folder of them.
        documents: whether each text (each line of a file, each file of a folder) is a document of its own; by default a
            list and a folder are documents, a text and a file are not.

    Raises:
        DataError: no such file, or no text in it.
    """
    if isinstance(texts, os.PathLike):
        path = Path(texts)
        if path.is_dir():
            files = text_files(path)
            if documents or documents is None:
                return TextsIn(lambda: ((str(file), read_text(file)) for file in files), True)
            return TextsIn(lambda: ((str(file), piece) for file in files for piece in read_pieces(file)), False)
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
        if documents:
            return TextsIn(lambda: ((f"{path}: line {number}", line) for number, line in read_lines(path)), True)
        return TextsIn(lambda: ((str(path), piece) for piece in read_pieces(path)), False)
    if isinstance(texts, str):
        return TextsIn(lambda: iter([("text 0", texts)]), bool(documents))
    listed = list(texts)
    wrong = next((row for row, text in enumerate(listed) if not isinstance(text, str)), None)
    if wrong is not None or not listed:
        found = "an empty list" if wrong is None else f"{type(listed[wrong]).__name__} in row {wrong}"
        raise DataError(f"texts: expected texts, found {found}.")
    return TextsIn(lambda: ((f"text {row}", text) for row, text in enumerate(listed)), documents is None or documents)
