"""One call of `fit` at work."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..random import Share
from ..spaces import State
from .batches import noise_of_step
from .interrupts import Interrupt, raise_for
from .objective import Objective
from .options import TrainingOptions
from .prefetch import parts
from .processes import Processes
from .progress import Listener, Status
from .readings import Readings
from .snapshots import save_snapshots
from .state import TrainingState
from .trainee import Trainee

Validate = Callable[[nn.Module], float]
OnRecord = Callable[[nn.Module, dict[str, Any]], object]


@dataclass
class Session:
    """The steps of one call; what outlives it is in its `TrainingState`.

    Everything that depends on the clock is decided by the main process's, which is compared once a step, so that all
    processes do the same.
    """

    state: TrainingState
    trainee: Trainee
    objective: Objective
    processes: Processes
    options: TrainingOptions
    batch_of: Callable[[int], State]
    validate: Validate | None
    on_record: OnRecord | None
    checkpoint: str | os.PathLike[str] | None
    listen: Listener
    interrupt: Interrupt
    device: torch.device

    def __post_init__(self):
        self.started, self.first_step = time.monotonic(), self.state.step
        self.now = self.saved_at = self.state.seconds
        self.readings = Readings(self.processes, self.now)
        self.asked, self.updating = 0, False
        self.rate: float | None = None

    def run(self) -> str:
        """Step until something ends the run, and say what."""
        self.trainee.train()
        try:
            stopped = self.steps()
        except KeyboardInterrupt:
            # A second Ctrl-C may have cut an update in two; the last checkpoint is whole, this moment is not. Nor can
            # one process by itself put together what several hold.
            if not self.updating and self.processes.size == 1:
                self.save(final=True)
            raise
        self.tick()
        if stopped is None:
            self.save(final=True)
            raise_for(self.asked)
        return stopped or ""

    def steps(self) -> str | None:
        """Step until the budget or the patience is spent, or, with None, somebody asks for an end."""
        self.tick()
        while True:
            stopped = self.stopped_by()
            self.record(final=stopped is not None)
            if stopped is None and self.out_of_patience():
                stopped = "patience"
            self.save(final=stopped is not None)
            if stopped is not None:
                return stopped
            self.step()
            self.tick()
            if self.readings.due(self.now):
                self.read()
            if self.asked:
                return None

    def tick(self) -> None:
        """Agree on the seconds of the whole run, earlier parts included, and on whether to end it."""
        seconds = self.state.seconds + time.monotonic() - self.started
        mine = seconds if self.processes.main else -math.inf
        self.now, asked = self.processes.largest(mine, float(self.interrupt.number))
        self.asked = int(asked)

    def stopped_by(self) -> str | None:
        """What ends the run now, or None."""
        options, state = self.options, self.state
        if options.max_steps is not None and state.step >= options.max_steps:
            return "max_steps"
        if options.max_minutes is not None and self.now >= 60 * options.max_minutes:
            return "max_minutes"
        return "patience" if self.out_of_patience() else None

    def out_of_patience(self) -> bool:
        """Whether too many validations have passed without improvement."""
        return self.options.patience is not None and self.state.stale >= self.options.patience

    def step(self) -> None:
        """One batch, one gradient, one update of the weights and of their averages."""
        means = self.gradient()
        norm = self.trainee.finish_gradients()
        self.rate = self.options.rate(self.state.step, self.now)
        self.updating = True
        self.state.update(norm, self.rate)
        self.readings.add(self.objective.names, means, norm)
        self.updating = False
        every = self.options.snapshot_every
        if every is not None and self.state.step % every == 0 and self.checkpoint is not None:
            averages = self.state.power_averages
            save_snapshots(self.checkpoint, averages, self.state.step, self.trainee, self.processes)

    def gradient(self) -> Tensor:
        """The gradient of this process's rows of a batch, part by part, and their share of the losses."""
        options, step = self.options, self.state.step
        share = self.processes.share(options.batch_size)
        batch = self.batch_of(step)
        means: Tensor | None = None
        for where, rows in parts(batch, options.accumulate):
            start, count = share.start + where.start, where.stop - where.start
            noise = noise_of_step(options.seed, step, self.device, start)
            if count < options.batch_size:
                noise = Share(noise, start, count, options.batch_size)
            last = share.start + where.stop == share.stop
            part = self.trainee.backward(rows, noise, count / options.batch_size, last=last)
            means = part if means is None else means + part
        assert means is not None  # a batch has a row for every process
        return means

    def read(self, *, tell: bool = True) -> None:
        """Fetch and check the losses since the last time, and tell the listener if there are any."""
        readings = self.readings.read(self.state.step, self.now)
        self.state.count_readings(readings)
        if readings and tell:
            self.tell()

    def tell(self) -> None:
        """Tell the listener where the run is."""
        state, seconds = self.state, self.now
        fraction = self.options.fraction(state.step, seconds)
        start = self.options.fraction(self.first_step, state.seconds)
        here = seconds - state.seconds
        left = here * (1.0 - fraction) / (fraction - start) if fraction > start else None
        speed = (state.step - self.first_step) / max(here, 1e-9)  # bounds a clock that has not ticked yet
        validated = state.validation is not None and state.validated_step == state.step
        self.listen(
            Status(
                *(state.step, seconds, fraction, speed, left, self.readings.shown, state.validation),
                validated=validated,
                learning_rate=self.rate,
            )
        )

    def record(self, *, final: bool) -> None:
        """Validate and write a line of history when it is time; a resumed run finds out by itself whether it was."""
        state = self.state
        due = state.step % self.options.validate_every == 0 and state.step > 0
        if not (due or final) or (state.history and state.history[-1]["step"] == state.step):
            return
        self.read(tell=False)  # but with the validation
        if self.validate is None and self.on_record is None:
            state.record(self.now)
        else:
            with self.trainee.carrying(state.average.weights) as module:
                if self.validate is not None:
                    self.record_validation(module, self.validate)
                line = state.record(self.now)
                if self.on_record is not None and self.processes.main:
                    self.on_record(module, dict(line))
        self.tell()

    def record_validation(self, module: nn.Module, validate: Validate) -> None:
        """Validate in the main process, and let all know."""
        value = float(validate(module)) if self.processes.main else 0.0
        value = self.processes.total(torch.tensor(value, dtype=torch.float64)).item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the validation value is {value} at training step {self.state.step}")
        self.state.record_validation(value)

    def save(self, *, final: bool) -> None:
        """Write the checkpoint when it is time."""
        waited = self.now - self.saved_at >= 60 * self.options.checkpoint_minutes
        if self.checkpoint is None or not (final or waited):
            return
        self.read()
        self.state.save(self.checkpoint, self.now)
        self.tick()
        self.saved_at = self.now
