"""What fitting is for every kind of data: outputs refused early, a checkpoint beside the model, a report at the end."""

from pathlib import Path
from typing import Any

from ..errors import DataError
from .model import SUFFIX
from .outputs import check_output, is_table
from .signals import Interrupted, Lost
from .terminal import counted, duration, is_main, say, size_of


def checkpoint_of(output: Path) -> Path:
    """Where the training is saved."""
    return output.with_name(f"{output.name}.checkpoint")


def check_model_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse outputs that cannot be, before any work.

    All processes that train together look, at whatever time: the main one writes none of these before all have met.

    Raises:
        DataError: the name is a table's, the model exists already, or an unfinished fit is there.
    """
    checkpoint = checkpoint_of(output)
    if is_table(output):
        raise DataError(f"{output} has the ending of a table; give the model another, such as {output.stem}{SUFFIX}")
    check_output(output, overwrite=overwrite)
    if checkpoint.exists() and not resume:
        raise DataError(
            f"{checkpoint} holds an unfinished fit; add --resume to continue it, or delete it to start again"
        )


def train(model: Any, data: Any, output: Path, *, resume: bool, overwrite: bool, **options: Any) -> None:
    """Fit and save a model; what is left of a fit that is stopped is its checkpoint.

    Of several processes that train together, which torchrun or `accelerate launch` started, the main one saves it.

    Args:
        model: an estimator.
        data: what its `fit` takes.
        output: the model file.
        resume: continue from the checkpoint.
        overwrite: whether an existing model may be replaced.
        options: further arguments of its `fit`.

    Raises:
        Interrupted: the user stopped it.
        Lost: another process is gone.
    """
    from ..training.processes import LostProcess

    checkpoint = checkpoint_of(output)
    try:
        model.fit(data, checkpoint=checkpoint, resume=resume, progress=True, **options)
        if not is_main():
            return
        model.save(output, overwrite=overwrite)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(_kept(checkpoint)) from interrupt
    except LostProcess as lost:
        raise Lost(f"another process of this fit has stopped or did not answer in time; {_kept(checkpoint)}") from lost
    for left in (checkpoint, checkpoint.with_name(f"{checkpoint.name}.companion")):
        left.unlink(missing_ok=True)


def say_trained(run: Any, unit: str, output: Path) -> None:
    """Say what the training did and where the model is."""
    trained = f"Trained for {duration(run.seconds)}: {counted(run.steps, 'step')}"
    if run.best_validation is not None:
        trained += f", {run.best_validation:.4g} {unit} at best (step {run.best_step:,})"
    say(f"{trained}.")
    say(f"The model is in {output} ({size_of(output)}).", "bold green")


def _kept(checkpoint: Path) -> str:
    if checkpoint.exists():
        return f"the training so far is kept in {checkpoint}; the same command with --resume continues it"
    return "nothing of the training was saved yet"
