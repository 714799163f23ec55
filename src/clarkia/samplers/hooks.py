"""What acts between the steps of a sampling run: progress, recording, and anything with ``on_step``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from clarkia.spaces import State


@dataclass(frozen=True, eq=False)
class Step:
    """A step just made.

    Attributes:
        index: Number of the step, from 0.
        total: Number of steps of the run.
        t: Time the step left, ``(n,)``.
        s: Time it reached, ``(n,)``.
        x: State at ``s``.
        prediction: The step's last prediction.
        carry: The solver's state; rows reordered in ``x`` must be reordered here too (`take_carry`).
    """

    index: int
    total: int
    t: Tensor
    s: Tensor
    x: State
    prediction: Any
    carry: Any = None


class Hook(Protocol):
    """Acts after each step; returns the step, changed by ``dataclasses.replace`` or as it came."""

    def on_step(self, step: Step) -> Step:
        """Called after each step."""
        ...


@dataclass(eq=False)
class Trace:
    """Records the run.

    Args:
        every: Record each ``every``-th step, and always the last.

    Attributes:
        times: Time reached at each record, ``(n,)``.
        states: State at each record.
        predictions: Prediction at each record.
    """

    every: int = 1
    times: list[Tensor] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)

    def on_step(self, step: Step) -> Step:
        """Keep this step."""
        if (step.index + 1) % self.every == 0 or step.index + 1 == step.total:
            self.times.append(step.s)
            self.states.append(step.x)
            self.predictions.append(step.prediction)
        return step


class Progress:
    """A progress bar on the terminal's error stream, gone when the run ends.

    Args:
        description: Words before the bar.
    """

    def __init__(self, description: str = "Sampling") -> None:
        self._description = description
        self._bar: Any = None

    def on_step(self, step: Step) -> Step:
        """Advance the bar."""
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=step.total)
        self._bar.update(self._task, completed=step.index + 1)
        if step.index + 1 == step.total:
            self._bar.stop()
            self._bar = None
        return step
