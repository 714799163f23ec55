"""The training loop."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic import check_writable
from ..errors import DataError
from ..spaces import State
from .interrupts import deferred_interrupt
from .objective import Loss, Objective
from .options import TrainingOptions
from .prefetch import batches
from .processes import Processes, in_touch, joined
from .progress import Listener, Log, listening
from .session import OnRecord, Session, Validate
from .snapshots import open_snapshots
from .sources import Source, as_source
from .state import TrainingState
from .strategies import compiled_in_place, trainee_of, uncompile


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
    data: State | Source,
    *,
    options: TrainingOptions,
    validate: Validate | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Listener = True,
    log: Sequence[Log] = (),
    on_record: OnRecord | None = None,
) -> TrainingRun:
    """Train a module in place and leave it with its best averaged weights, in evaluation mode.

    The rows and the noise of a step depend on the seed and the number of the step alone. A run on a budget of steps
    that was killed and resumed therefore ends with the same weights, bit for bit, as one that was not. A run on a
    budget of minutes resumes with the minutes it had left. Ctrl-C or SIGTERM ends the step, saves a checkpoint and is
    raised, as KeyboardInterrupt or SystemExit.

    The same call works in the processes of `torchrun` or `accelerate launch`, all of which must make it: each takes its
    part of the rows of a step, and together they make the step that one would. The main process validates, writes and
    reports.

    Args:
        module: holds everything that is trained; the batches are moved to its device. Several processes on GPUs take
            one each, and the module moves there.
        loss: loss(module, batch, generator) gives the loss of each row of the batch, shape (batch_size,), or a dict of
            several such losses, whose sum is minimised. All its noise comes from the generator. Where a step is shared
            by processes or accumulated, the batch is a part of it and the generator a `random.Share`, which the
            functions of `clarkia.random` draw the part's numbers from.
        data: a tensor, or a dict of tensors, whose first axis is the rows, on the CPU; or a `Source` that reads them.
        options: batch size, budget, learning rate and the rest.
        validate: validate(module) gives a number to be made small; it is called with the averaged weights, in
            evaluation mode and without gradients, every `validate_every` steps and at the end.
        checkpoint: a file that the state of the run is saved to, every `checkpoint_minutes` and at the end; all
            processes must see it.
        resume: continue the run in `checkpoint`; where there is no such file the run starts afresh.
        progress: whether to show a progress bar where standard error is a terminal; or a function that is called with
            a `Status` some times a second.
        log: records that are kept of every report, such as `CSVLog("run.csv")`; a resumed run goes on in them.
        on_record: on_record(module, record) is called after every line of the history, with the averaged weights in the
            module and without gradients, to look at samples for instance.

    Returns:
        A summary of the run.

    Raises:
        DataError: the data have no rows, or fewer than processes in a batch; the checkpoint cannot be written, exists
            although `resume` is false, is damaged, or belongs to another network, other data, seed or batch size.
        FloatingPointError: a loss or the gradient is not finite; the message names it and the step.
        RuntimeError: another process was lost.
    """
    source = as_source(data)
    home = next(module.parameters()).device
    with ExitStack() as stack:
        processes, device = stack.enter_context(joined(home, options.timeout_minutes))
        stack.enter_context(in_touch(processes))
        if processes.size > options.batch_size:
            raise DataError(f"training option batch_size must be at least {processes.size}, a row for each process")
        module.to(device)
        objective = Objective(module, loss, device.type if options.precision == "bfloat16" else None)
        trainee = trainee_of(objective, processes, device, options)
        state = TrainingState(trainee, processes, options, 0 if checkpoint is None else source.fingerprint())
        if checkpoint is not None:
            _open_checkpoint(Path(checkpoint), state, resume, processes)
        if options.snapshot_every is not None:
            open_snapshots(checkpoint, state.step, resume=resume, main=processes.main)
        if options.compile:
            stack.callback(uncompile, compiled_in_place(objective.module))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        listen = _no_listener
        if processes.main:
            listen = stack.enter_context(listening(progress, log, state.step, resume=resume))
        interrupt = stack.enter_context(deferred_interrupt(grace=1.0 if processes.size > 1 else 0.0))
        batch_of = stack.enter_context(
            batches(
                source,
                batch_size=options.batch_size,
                seed=options.seed,
                share=processes.share(options.batch_size),
                device=device,
                first=state.step,
                ahead=options.read_ahead,
            )
        )
        session = Session(
            *(state, trainee, objective, processes, options, batch_of),
            *(validate, on_record, checkpoint, listen, interrupt, device),
        )
        stopped = session.run()
        trainee.leave(state.kept_weights())
    best_step = state.step if state.best_weights is None else state.best_step
    return TrainingRun(state.step, session.now, stopped, best_step, state.best_validation, tuple(state.history))


def _open_checkpoint(path: Path, state: TrainingState, resume: bool, processes: Processes) -> None:
    exists = path.exists()
    somewhere, nowhere = processes.largest(float(exists), float(not exists))
    if somewhere and nowhere:
        raise DataError(f"{path} is seen by some processes only; put it on a disk that all of them share")
    if exists and resume:
        state.load(path)
    elif exists:
        raise DataError(f"{path} holds an unfinished run: resume it, or delete the file to start again")
    if processes.main:
        check_writable(path, overwrite=True)


def _no_listener(status: object) -> None:
    """What the processes that do not report tell."""
