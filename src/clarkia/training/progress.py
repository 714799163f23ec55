"""What a training run tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


@dataclass(frozen=True)
class Status:
    """A moment of a training run.

    Attributes:
        step: finished steps.
        seconds: time spent, earlier parts of a resumed run included.
        fraction: share of the budget spent, in [0, 1].
        steps_per_second: speed since the run was started or resumed.
        seconds_left: estimate of the time to the end of the budget; None until it can be estimated.
        losses: mean of each loss since the last report.
        validation: the latest validation value, None before the first.
    """

    step: int
    seconds: float
    fraction: float
    steps_per_second: float
    seconds_left: float | None
    losses: dict[str, float]
    validation: float | None


Listener = Callable[[Status], None]


class ProgressBar:
    """A progress bar on standard error, with losses, speed and time left; silent where there is no terminal."""

    def __init__(self):
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
        console = Console(stderr=True)
        off = not console.is_terminal
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True, disable=off)
        self._task = self._progress.add_task("training", total=1.0, words="")

    def __enter__(self) -> Listener:
        self._progress.start()
        return self._show

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def _show(self, status: Status) -> None:
        self._progress.update(self._task, completed=status.fraction, words=describe(status), refresh=True)


def describe(status: Status) -> str:
    """One line of words for a status: step, speed, losses, validation, time left."""
    parts = [f"step {status.step:,}", f"{status.steps_per_second:.1f} steps/s"]
    parts += [f"{name} {value:.4f}" for name, value in status.losses.items()]
    if status.validation is not None:
        parts.append(f"validation {status.validation:.4f}")
    if status.seconds_left is not None:
        minutes, seconds = divmod(round(status.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return "  ".join(parts)
