"""The progress bar of a report's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[str], None]


@contextmanager
def progress_of(show: bool, total: int) -> Iterator[Step]:
    """A step function that moves a progress bar, or does nothing."""
    if not show:
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    layout = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*layout, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("Reading", total=total)

        def step(name: str) -> None:
            bar.update(task, description=name, advance=1)

        yield step
