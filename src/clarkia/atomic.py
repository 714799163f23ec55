"""Files that appear whole or not at all: written beside their final name, then renamed into place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DataError


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Lend a temporary path; when the block succeeds its file is synced to disk and takes the name `path`.

    When the block fails the temporary file is removed and whatever was at `path` is still there, untouched.

    Args:
        path: the final name of the file.
        overwrite: whether a file that already has this name may be replaced.

    Yields:
        The path to write to, in the same folder as `path`.

    Raises:
        DataError: the path exists and `overwrite` is false, or it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        check_writable(path, overwrite=overwrite)
        yield temporary
        _sync(temporary)
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_new(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in (path, temporary, path.parent):
            raise
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse an output path before any work is done for it.

    Args:
        path: the file that is going to be written.
        overwrite: whether a file that already has this name may be replaced.

    Raises:
        DataError: the path exists and `overwrite` is false, is a folder, or lies in a folder that cannot be written.
    """
    path = Path(path)
    try:
        exists = path.exists() or path.is_symlink()
    except OSError as error:
        raise _unwritable(path, error) from error
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder; give the name of a file")
    if exists and not overwrite:
        raise DataError(f"{path} exists already; allow it to be overwritten or choose another name")
    if not path.parent.is_dir():
        raise DataError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"cannot write {path}: the folder {path.parent} is not writable; choose another folder")


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename without ever replacing a file that appeared meanwhile (where the file system has hard links)."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise DataError(f"{path} appeared while it was being written; choose another name") from error
    except OSError:
        check_writable(path)
        os.replace(temporary, path)


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; choose another place")
