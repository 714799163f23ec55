"""The training loop."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import check_writable
from ..errors import DataError
from ..spaces import State, num_rows
from .batches import RowOrder, fingerprint, noise_of_step, take
from .ema import write
from .interrupts import deferred_interrupt
from .options import TrainingOptions
from .progress import Listener, ProgressBar, Status
from .state import TrainingState

Loss = Callable[[nn.Module, State, torch.Generator], Tensor | Mapping[str, Tensor]]
Validate = Callable[[nn.Module], float]

# Losses are read from the device at most this often, because reading waits for it.
_SECONDS_BETWEEN_READINGS = 0.25
_STEPS_BETWEEN_READINGS = 64


@dataclass(frozen=True)
class TrainingRun:
    """What a training run did.

    Attributes:
        steps: finished steps, those of an earlier part of a resumed run included.
        seconds: time spent, likewise.
        stopped: what ended it: "max_steps", "max_minutes" or "patience".
        best_step: the step whose averaged weights were kept.
        best_validation: their validation value; None without validation.
        history: a record every `validate_every` steps: step, seconds, validation and the mean of each loss since
            the record before.
    """

    steps: int
    seconds: float
    stopped: str
    best_step: int
    best_validation: float | None
    history: tuple[dict[str, Any], ...]


def fit(
    module: nn.Module,
    loss: Loss,
    data: State,
    *,
    options: TrainingOptions,
    validate: Validate | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Listener = True,
) -> TrainingRun:
    """Train a module in place and leave it with its best averaged weights, in evaluation mode.

    The rows and the noise of a step depend on the seed and the number of the step alone. A run on a budget of steps
    that was killed and resumed therefore ends with the same weights, bit for bit, as one that was not. A run on a
    budget of minutes resumes with the minutes it had left. Ctrl-C ends the step, saves a checkpoint and is raised.

    Args:
        module: holds everything that is trained; the batches are moved to its device.
        loss: loss(module, batch, generator) gives the loss of each row of the batch, shape (batch_size,), or a dict of
            several such losses, whose sum is minimised. All its noise comes from the generator.
        data: a tensor, or a dict of tensors, whose first axis is the rows; on the CPU.
        options: batch size, budget, learning rate and the rest.
        validate: validate(module) gives a number to be made small; it is called with the averaged weights, in
            evaluation mode and without gradients, every `validate_every` steps and at the end.
        checkpoint: a file that the state of the run is saved to, every `checkpoint_minutes` and at the end.
        resume: continue from `checkpoint` where that file exists, else start.
        progress: True shows a progress bar on standard error; a function is called with a `Status` instead.

    Returns:
        A summary of the run.

    Raises:
        DataError: the data have no rows; the checkpoint cannot be written, exists although
            `resume` is false, is damaged, or belongs to another network, other data, seed or batch size.
        FloatingPointError: a loss or the gradient is not finite; the message names it and the step.
    """
    if num_rows(data) == 0:
        raise DataError("the training data have no rows")
    state = TrainingState(module, options, 0 if checkpoint is None else fingerprint(data))
    if checkpoint is not None:
        _open_checkpoint(Path(checkpoint), state, resume)
    device = next(module.parameters()).device
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(forked), _listening(progress) as listen, deferred_interrupt() as interrupt:
        session = _Session(state, options, loss, data, validate, checkpoint, listen, device)
        stopped = session.run(interrupt)
    write(module.state_dict(), state.kept_weights())
    module.eval()
    best_step = state.step if state.best_weights is None else state.best_step
    return TrainingRun(state.step, session.elapsed(), stopped, best_step, state.best_validation, tuple(state.history))


@dataclass
class _Session:
    """One call of `fit` at work; what outlives the call is in its `TrainingState`."""

    state: TrainingState
    options: TrainingOptions
    loss: Loss
    data: State
    validate: Validate | None
    checkpoint: str | os.PathLike[str] | None
    listen: Listener
    device: torch.device

    def __post_init__(self):
        self.rows = RowOrder(num_rows(self.data), self.options.batch_size, self.options.seed)
        self.parameters = [p for group in self.state.optimizer.param_groups for p in group["params"]]
        self.started, self.first_step = time.monotonic(), self.state.step
        self.read_at = self.saved_at = self.started
        self.unread: list[Tensor] = []
        self.names: tuple[str, ...] = ()
        self.shown: dict[str, float] = {}
        self.updating = False

    def elapsed(self) -> float:
        """Seconds of the whole run, earlier parts included."""
        return self.state.seconds + time.monotonic() - self.started

    def run(self, interrupt: threading.Event) -> str:
        """Step until something ends the run, and say what."""
        self.state.module.train()
        try:
            while True:
                stopped = self.stopped_by()
                self.record(final=stopped is not None)
                if stopped is None and self.out_of_patience():
                    stopped = "patience"
                self.save(final=stopped is not None)
                if stopped is not None:
                    return stopped
                self.step()
                self.read()
                if interrupt.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            # A second Ctrl-C may have cut an update in two; the last checkpoint is whole, this moment is not.
            if not self.updating:
                self.save(final=True)
            raise

    def stopped_by(self) -> str | None:
        """What ends the run now, or None."""
        options, state = self.options, self.state
        if options.max_steps is not None and state.step >= options.max_steps:
            return "max_steps"
        if options.max_minutes is not None and self.elapsed() >= 60 * options.max_minutes:
            return "max_minutes"
        return "patience" if self.out_of_patience() else None

    def out_of_patience(self) -> bool:
        """Whether too many validations have passed without improvement."""
        return self.options.patience is not None and self.state.stale >= self.options.patience

    def step(self) -> None:
        """One batch, one gradient, one update of the weights and of their average."""
        state, options = self.state, self.options
        batch = take(self.data, self.rows.batch(state.step), self.device)
        generator = noise_of_step(options.seed, state.step, self.device)
        with self.precision():
            losses = self.loss(state.module, batch, generator)
        losses = losses if isinstance(losses, Mapping) else {"loss": losses}
        means = torch.stack([_mean(name, values) for name, values in losses.items()])
        means.sum().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.updating = True
        if options.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, options.clip_norm, norm)
        for group in state.optimizer.param_groups:
            group["lr"] = options.rate(state.step, self.elapsed())
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.average.update(state.step)
        state.step += 1
        self.names = (*losses, "gradient norm")
        self.unread.append(torch.cat([means.detach(), norm[None]]))
        self.updating = False

    def read(self, *, now: bool = False) -> None:
        """From time to time, fetch the losses of the last steps, check them, and tell the listener."""
        clock = time.monotonic()
        due = now or len(self.unread) >= _STEPS_BETWEEN_READINGS or clock - self.read_at >= _SECONDS_BETWEEN_READINGS
        if not due or not self.unread:
            return
        readings = torch.stack(self.unread).tolist()
        first = self.state.step - len(readings) + 1
        self.unread, self.read_at = [], clock
        for step, reading in enumerate(readings, first):
            for name, value in zip(self.names, reading, strict=True):
                if not math.isfinite(value):
                    raise FloatingPointError(f"the {_title(name)} is {value} at training step {step}")
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.counted += 1
        columns = zip(*readings, strict=True)
        self.shown = {name: sum(column) / len(readings) for name, column in zip(self.names, columns, strict=True)}
        self.listen(self.status(clock))

    def status(self, clock: float) -> Status:
        """The run at this moment."""
        state, seconds = self.state, self.elapsed()
        fraction = self.options.fraction(state.step, seconds)
        start = self.options.fraction(self.first_step, state.seconds)
        here = clock - self.started
        left = here * (1.0 - fraction) / (fraction - start) if fraction > start else None
        speed = (state.step - self.first_step) / max(here, 1e-9)  # bounds a clock that has not ticked yet
        return Status(state.step, seconds, fraction, speed, left, self.shown, state.validation)

    def record(self, *, final: bool) -> None:
        """Validate and write a line of history when it is time; a resumed run finds out by itself whether it was."""
        state = self.state
        due = state.step % self.options.validate_every == 0 and state.step > 0
        if not (due or final) or (state.history and state.history[-1]["step"] == state.step):
            return
        self.read(now=True)
        if self.validate is not None:
            state.module.eval()
            with state.average.applied(), torch.no_grad():
                value = float(self.validate(state.module))
            state.module.train()
            if not math.isfinite(value):
                raise FloatingPointError(f"the validation value is {value} at training step {state.step}")
            state.record_validation(value)
        means = {name: total / state.counted for name, total in state.sums.items()}
        line = {"step": state.step, "seconds": self.elapsed(), "validation": state.validation, **means}
        state.history.append(line)
        state.sums, state.counted = {}, 0

    def save(self, *, final: bool) -> None:
        """Write the checkpoint when it is time."""
        clock = time.monotonic()
        if self.checkpoint is None or not (final or clock - self.saved_at >= 60 * self.options.checkpoint_minutes):
            return
        self.read(now=True)
        self.state.save(self.checkpoint, self.elapsed())
        self.saved_at = time.monotonic()

    def precision(self) -> AbstractContextManager[object]:
        """The arithmetic of the loss."""
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _mean(name: str, values: Tensor) -> Tensor:
    if values.ndim != 1:
        raise ValueError(f"the {_title(name)} must have one value a row, not the shape {tuple(values.shape)}")
    return values.float().mean()


def _title(name: str) -> str:
    return name if name in ("loss", "gradient norm") else f"loss {name!r}"


def _open_checkpoint(path: Path, state: TrainingState, resume: bool) -> None:
    if path.exists() and resume:
        state.load(path)
    elif path.exists():
        raise DataError(f"{path} holds an unfinished run: resume it, or delete the file to start again")
    check_writable(path, overwrite=True)


def _listening(progress: bool | Listener) -> AbstractContextManager[Listener]:
    if callable(progress):
        return nullcontext(progress)
    return ProgressBar() if progress else nullcontext(lambda status: None)
