"""What a person sees: sentences, tables and progress bars; of several processes that work together, the first's."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..shards import Shard

_FILE_WIDTH = 120  # of what is not written to a terminal


def is_main() -> bool:
    """Whether this process speaks and writes for all that a launcher started together."""
    return Shard.here().index == 0


def console(*, stderr: bool = False, quiet: bool | None = None) -> Console:
    """The terminal, or whatever stands in for it now.

    Args:
        stderr: standard error instead of standard output.
        quiet: print nothing; by default in all processes but the main one.
    """
    quiet = not is_main() if quiet is None else quiet
    found = Console(stderr=stderr, highlight=False, quiet=quiet)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, quiet=quiet, width=_FILE_WIDTH)


def say(text: str = "", style: str = "") -> None:
    """Print one line on standard output, as it is: neither wrapped nor read as markup."""
    console().print(Text(text, style), soft_wrap=True)


def fail(sentence: str, word: str = "Error") -> None:
    """Print one sentence on standard error; errors of every process, other sentences of the main one only.

    Args:
        sentence: what is wrong and what to do.
        word: what kind of sentence it is.
    """
    line = " ".join(sentence.split()).rstrip(".")
    screen = console(stderr=True, quiet=False if word == "Error" else None)
    screen.print(Text.assemble((f"{word}: ", "bold red"), printable(f"{line}.")), soft_wrap=True)


def printable(value: object) -> str:
    """A value as one line of text that can neither move the cursor nor change a colour."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in a row, the later ones counted only."""
    names = list(names)
    rest = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *rest])


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "32,561 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shell(text: object) -> str:
    """A word of a command as a person would type it for a shell."""
    text = str(text)
    if "'" in text and not set(text) & set('"$`\\!\n'):
        return f'"{text}"'
    return shlex.quote(text)


def duration(seconds: float) -> str:
    """A length of time in the largest fitting unit: "41 s", "12 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size_of(path: Path) -> str:
    """The size of a file, or of all in a folder: "912 bytes", "7.2 MB"."""
    size = float(sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path])))
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def grid(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print a table on standard output.

    Args:
        header: the titles.
        rows: the cells.
        right: positions of the columns that are aligned right.
    """
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for place, title in enumerate(header):
        side = "right" if place in right else "left"
        table.add_column(Text(printable(title)), justify=side, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show on standard error that something goes on whose end is not known; nothing where there is no terminal."""
    with _bar(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        progress.add_task(words, total=None)
        yield


class Counter:
    """A bar on standard error that counts rows; nothing where there is no terminal.

    Args:
        words: what is done to them.
        total: how many there are.
        noun: what one is.
    """

    def __init__(self, words: str, total: int, noun: str = "row"):
        count = TextColumn("{task.completed:,.0f} of {task.total:,} " + f"{noun}s")
        self._progress = _bar(TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
        self._task = self._progress.add_task(words, total=total)

    def __enter__(self) -> "Counter":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def add(self, rows: float) -> None:
        """So many more are done; a part of the work on a row is a part of it."""
        task = self._progress.tasks[0]
        self._progress.update(self._task, completed=min(task.completed + rows, task.total or 0))


def _bar(*columns) -> Progress:
    screen = console(stderr=True)
    return Progress(*columns, console=screen, transient=True, disable=screen.quiet or not screen.is_terminal)
