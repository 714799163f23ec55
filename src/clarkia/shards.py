"""Parts of one piece of work that processes do apart from each other, and the folder of files that they leave."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError

PARQUET = ".parquet"

_PART = re.compile(r"(?P<name>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet")


def share(rows: int, index: int, count: int) -> slice:
    """The rows that one of several takes: neighbours, as many as any other takes or one fewer or more.

    Args:
        rows: of all of them together.
        index: which one; the first is 0.
        count: how many there are.
    """
    return slice(index * rows // count, (index + 1) * rows // count)


@dataclass(frozen=True)
class Shard:
    """One of several parts that are made apart: no process waits for another, and one that is lost loses its own part.

    Args:
        index: which part; the first is 0.
        count: how many parts there are; at most 99,999.

    Raises:
        ValueError: there is no such part.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count < 100_000:
            raise ValueError(f"index, count: expected 0 <= index < count < 100000, found {self.index}, {self.count}.")

    @classmethod
    def here(cls) -> "Shard":
        """The part of this process among those that torchrun or `accelerate launch` started; the whole without them.

        Raises:
            DataError: the variables RANK and WORLD_SIZE, which launchers set, are no numbers or out of range.
        """
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        try:
            return cls() if int(size) == 1 else cls(int(rank), int(size))
        except ValueError:
            raise DataError(
                f"the variables RANK={rank} and WORLD_SIZE={size} name no process; unset them, or start with torchrun"
            ) from None

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The part that a person calls "2/4", the second of four.

        Raises:
            DataError: the text has another form, or there is no such part.
        """
        place, _, count = text.partition("/")
        try:
            return cls(int(place) - 1, int(count))
        except ValueError:
            raise DataError(f"{text!r} names no part; those of four are 1/4, 2/4, 3/4 and 4/4") from None

    @property
    def file_name(self) -> str:
        """The name of the part's file: "part-00001-of-00004.parquet" is the second of four."""
        return _name("part", self.index, self.count)

    def share(self, rows: int) -> slice:
        """The rows, of all there are, that are this part's."""
        return share(rows, self.index, self.count)


def counted_part(file: Path) -> int | None:
    """How many parts there are of what a file is a part of, told by its name; None where it is none."""
    match = _PART.fullmatch(file.name)
    return int(match["count"]) if match else None


def files_in(folder: Path) -> Iterator[Path]:
    """What lies in a folder but is neither hidden nor a mark such as ``_SUCCESS``."""
    return (file for file in folder.iterdir() if not file.name.startswith((".", "_")))


def is_table_folder(path: Path) -> bool:
    """Whether a path is a folder of Parquet files and nothing else: one table in parts."""
    if not path.is_dir():
        return False
    endings = {file.suffix.lower() if file.is_file() else "" for file in files_in(path)}
    return endings == {PARQUET}


def parts_of(folder: Path) -> list[Path]:
    """The Parquet files of a folder in the order of their names, which tell whether one is missing.

    Raises:
        DataError: a part is missing, or parts of two runs lie side by side; the sentence names it.
    """
    files = sorted(file for file in files_in(folder) if file.suffix.lower() == PARQUET)
    runs: dict[str, dict[int, set[int]]] = {}
    for file in files:
        if match := _PART.fullmatch(file.name):
            runs.setdefault(match["name"], {}).setdefault(int(match["count"]), set()).add(int(match["index"]))
    for name, counts in runs.items():
        if len(counts) > 1:
            several = " and ".join(f"of {count}" for count in sorted(counts))
            raise DataError(f"{folder} holds parts of several runs, {several}; delete those of all but one")
        ((count, found),) = counts.items()
        missing = sorted(set(range(count)) - found)
        if missing:
            lacking = f"{len(missing)} of {count} parts are missing"
            raise DataError(f"{folder} lacks {_name(name, missing[0], count)} ({lacking}); make it as the others were")
    return files


def _name(name: str, index: int, count: int) -> str:
    return f"{name}-{index:05d}-of-{count:05d}{PARQUET}"
