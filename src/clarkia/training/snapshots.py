"""The averages of a run at many steps, kept in a folder beside its checkpoint for averages of any length later."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError
from .ema import PowerAverage
from .posthoc import save_snapshot
from .processes import Processes
from .trainee import Trainee


def snapshots_of(checkpoint: str | os.PathLike[str]) -> list[Path]:
    """The snapshots of a run, in the order of their steps, for `posthoc`.

    Args:
        checkpoint: the file that the run saved its state to.
    """
    return sorted(_folder(checkpoint).glob("*.safetensors"))


def open_snapshots(checkpoint: str | os.PathLike[str] | None, step: int, *, resume: bool, main: bool) -> None:
    """Make ready the folder, without the snapshots of steps that are going to be done again.

    Args:
        checkpoint: the file that the run saves its state to.
        step: finished steps.
        resume: whether snapshots may be there.
        main: whether this process writes them.

    Raises:
        DataError: no checkpoint to keep them by, or there are snapshots of another run.
    """
    if checkpoint is None:
        raise DataError("snapshots are kept beside the checkpoint; give a checkpoint, or no snapshot_every")
    there = snapshots_of(checkpoint)
    if there and not resume:
        raise DataError(f"{_folder(checkpoint)} holds the snapshots of another run: resume it, or delete the folder")
    if main:
        _folder(checkpoint).mkdir(exist_ok=True)
        for path in there:
            if int(path.name.partition("-")[0]) > step:
                path.unlink()


def save_snapshots(
    checkpoint: str | os.PathLike[str],
    averages: Iterable[PowerAverage],
    step: int,
    trainee: Trainee,
    processes: Processes,
) -> None:
    """Write one file for each average; all processes call this, the main one writes."""
    for average in averages:
        whole = copy.copy(average)
        whole.weights = {name: trainee.whole(name, tensor) for name, tensor in average.weights.items()}
        if processes.main:
            save_snapshot(_folder(checkpoint) / f"{step:010d}-{average.sigma_rel:g}.safetensors", whole, step)


def _folder(checkpoint: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(checkpoint)}.snapshots")
