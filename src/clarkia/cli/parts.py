"""One output of several processes: a folder with a Parquet file for each."""

import os
from contextlib import suppress
from pathlib import Path

from ..errors import DataError
from ..shards import Shard, counted_part, files_in
from .outputs import check_output


def chosen_shard(text: str | None, output: Path | None) -> Shard | None:
    """The part that this process draws: the one asked for, or the one that a launcher's processes have each.

    Args:
        text: what the user asked for, such as "2/4".
        output: where the samples go; a launcher that starts a single process makes one part in a folder too.

    Returns:
        The part; None where one process draws all into an output of another kind.

    Raises:
        DataError: the text names no part, or both the user and a launcher name one.
    """
    here = Shard.here()
    if text is None:
        only = "RANK" in os.environ and output is not None and not output.suffix
        return here if here.count > 1 or only else None
    if here.count > 1:
        raise DataError("--shard is for processes started by hand, and a launcher started these; leave it out")
    return Shard.parse(text)


def part_in(folder: Path | None, shard: Shard, *, overwrite: bool) -> Path:
    """The file of a part in a folder, which is made; refused before any work where it cannot be written.

    Raises:
        DataError: there is no folder in the name, it holds something else or parts of another run, or the part exists.
    """
    if folder is None or (folder.suffix and not folder.is_dir()):
        found = "nothing" if folder is None else f"-o {folder}"
        raise DataError(f"each of {shard.count} parts is a file in a folder; give -o rows/ instead of {found}")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give the name of a folder for the {shard.count} parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}") from error
    for file in files_in(folder):
        if counted_part(file) is None:
            raise DataError(f"{folder} holds {file.name}, which is no part of a table; choose an empty folder")
    others = _others(folder, shard)
    if others and not overwrite:
        raise DataError(
            f"{folder} holds {others[0].name} of a run with another number of parts; add --overwrite to replace all of "
            "them, or choose another folder"
        )
    path = folder / shard.file_name
    check_output(path, overwrite=overwrite)
    return path


def remove_others(folder: Path, shard: Shard) -> None:
    """Remove the parts of runs with another number of parts; processes that do so at once are not in each other's way.

    Args:
        folder: where the parts are.
        shard: the part that has just been written there.
    """
    for file in _others(folder, shard):
        with suppress(FileNotFoundError):
            file.unlink()


def _others(folder: Path, shard: Shard) -> list[Path]:
    return sorted(file for file in files_in(folder) if counted_part(file) not in (None, shard.count))
