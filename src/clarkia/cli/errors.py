"""Errors of the user as sentences of the command line."""

import errno
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError

_ROLE = re.compile(r"""declare roles=\{(['"])(?P<column>.*?)\1: '(?P<role>\w+)'\}""")


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name the file that an error within the block is about.

    Raises:
        DataError: with the file in front, where the sentence does not hold it yet.
    """
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def sentence(error: DataError | OSError) -> str | None:
    """What a user is told of an error; None where it is not the user's."""
    if isinstance(error, DataError):
        return _in_options(str(error))
    if error.filename is None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "the disk is full; make room or choose another place" if full else None
    name = os.fsdecode(error.filename)
    if isinstance(error, FileNotFoundError):
        return f"there is no file {name}; check its name"
    if isinstance(error, IsADirectoryError):
        return f"{name} is a folder; give the name of a file"
    return f"cannot open {name}: {(error.strerror or str(error)).lower()}; check its permissions or choose another file"


def _in_options(text: str) -> str:
    """Say what to declare as it is declared here."""
    text = text.replace("declare it in roles as", "declare it with --role as")
    return _ROLE.sub(lambda found: "add --role " + shlex.quote(f"{found['column']}={found['role']}"), text)
