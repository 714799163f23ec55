"""What a training run tells while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

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
        validated: whether it belongs to this very step.
        learning_rate: of the last step; None before the first.
    """

    step: int
    seconds: float
    fraction: float
    steps_per_second: float
    seconds_left: float | None
    losses: dict[str, float]
    validation: float | None
    validated: bool = False
    learning_rate: float | None = None


Listener = Callable[[Status], None]


class Log(Protocol):
    """A record of a run that outlives it: `training.CSVLog`, `training.TensorBoardLog`, or one of your own."""

    def open(self, step: int, *, resume: bool) -> AbstractContextManager[Listener]:
        """Lend a listener for one part of a run.

        Args:
            step: finished steps; what was written of later ones is forgotten, because they are done again.
            resume: whether there may be something that was written before.
        """
        ...


@contextmanager
def listening(progress: bool | Listener, logs: Sequence[Log], step: int, *, resume: bool) -> Iterator[Listener]:
    """Lend one listener for all that want to be told: the bar or the listener given, and the logs.

    Args:
        progress: true for a bar; or a listener.
        logs: records that are kept.
        step: finished steps.
        resume: whether the run may have been begun before.
    """
    with ExitStack() as stack:
        listeners = [stack.enter_context(log.open(step, resume=resume)) for log in logs]
        if callable(progress):
            listeners.append(progress)
        elif progress:
            listeners.append(stack.enter_context(ProgressBar()))

        def tell(status: Status) -> None:
            for listener in listeners:
                listener(status)

        yield tell


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
