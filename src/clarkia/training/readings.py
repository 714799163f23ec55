"""The losses of the steps: left on the device, fetched from time to time, checked and averaged."""

import math

import torch
from torch import Tensor

from .objective import title
from .processes import Processes

# Losses are read from the device at most this often, because reading waits for it.
_SECONDS_BETWEEN_READINGS = 0.25
_STEPS_BETWEEN_READINGS = 64


class Readings:
    """The losses of steps that have not been looked at yet.

    Args:
        processes: those that train together; each has its part of every loss.
        seconds: time at the start.

    Attributes:
        shown: mean of each loss over the steps of the last reading.
    """

    def __init__(self, processes: Processes, seconds: float):
        self._processes, self._read_at = processes, seconds
        self._unread: list[Tensor] = []
        self._names: tuple[str, ...] = ()
        self.shown: dict[str, float] = {}

    def add(self, names: tuple[str, ...], means: Tensor, norm: Tensor) -> None:
        """Note the losses of a step and the norm of its gradient, all on the device."""
        self._names = (*names, "gradient norm")
        self._unread.append(torch.cat([means, norm.to(means)[None]]))

    def due(self, seconds: float) -> bool:
        """Whether there is something to read and it is time to."""
        waited = seconds - self._read_at >= _SECONDS_BETWEEN_READINGS
        return bool(self._unread) and (waited or len(self._unread) >= _STEPS_BETWEEN_READINGS)

    def read(self, step: int, seconds: float) -> list[dict[str, float]]:
        """Fetch the losses of the steps since the last reading, one dict a step.

        Args:
            step: finished steps.
            seconds: time of the run.

        Raises:
            FloatingPointError: one of them is not finite; the message names it and its step.
        """
        if not self._unread:
            return []
        numbers = torch.stack(self._unread)
        if not self._processes.main:
            numbers[:, -1] = 0  # the norm is that of all processes already
        rows = self._processes.total(numbers).tolist()
        self._unread, self._read_at = [], seconds
        readings = [dict(zip(self._names, row, strict=True)) for row in rows]
        for number, reading in enumerate(readings, step - len(readings) + 1):
            for name, value in reading.items():
                if not math.isfinite(value):
                    raise FloatingPointError(f"the {title(name)} is {value} at training step {number}")
        self.shown = {name: sum(reading[name] for reading in readings) / len(readings) for name in self._names}
        return readings
