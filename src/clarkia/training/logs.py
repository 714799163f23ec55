"""Records of a run in files: a table of numbers, or a folder for TensorBoard."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..atomic import check_writable, replacing
from ..errors import DataError
from .progress import Listener, Status

_LEADING = ("step", "seconds", "steps_per_second", "learning_rate", "validation")


@dataclass(frozen=True)
class CSVLog:
    """A CSV file with a line a report: step, seconds, speed, learning rate, validation where there was one, and losses.

    A resumed run goes on after the last step of its checkpoint; lines of later steps are taken out first, because these
    steps are done again.

    Args:
        path: the file.
    """

    path: str | os.PathLike[str]

    @contextmanager
    def open(self, step: int, *, resume: bool) -> Iterator[Listener]:
        """See `Log`.

        Raises:
            DataError: the file cannot be written, holds another run or is no such table.
        """
        path = Path(self.path)
        check_writable(path, overwrite=True)
        header, lines = _read(path) if path.exists() else ([], [])
        if lines and not resume:
            raise DataError(f"{path} holds the log of another run: resume it, or delete the file to start again")
        kept = [line for line in lines if int(line[0]) <= step]
        with replacing(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([header, *kept] if kept else [])
        with path.open("a", newline="") as file:
            writer, held = csv.writer(file), None

            def tell(status: Status) -> None:
                nonlocal held, header, kept
                names = [*_LEADING, *status.losses]
                if not kept:
                    header, kept = names, [names]
                    writer.writerow(header)
                if names != header:
                    raise DataError(f"{path} has the columns {header}, not {names}; choose another file for this run")
                if held is not None and held[0] != status.step:
                    writer.writerow(held)
                    file.flush()
                held = _line(status)  # until the next step, because a validation of the same one may follow

            try:
                yield tell
            finally:
                if held is not None:
                    writer.writerow(held)


def _line(status: Status) -> list[float | None]:
    validation = status.validation if status.validated else None
    head = [status.step, status.seconds, status.steps_per_second, status.learning_rate, validation]
    return [*head, *status.losses.values()]


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and whole lines of a table that an earlier part of the run may have been cut off in writing."""
    text = path.read_text()
    header, *lines = csv.reader(text[: text.rfind("\n") + 1].splitlines()) if "\n" in text else [[]]
    if header and (tuple(header[: len(_LEADING)]) != _LEADING or not all(line[0].isdigit() for line in lines)):
        raise DataError(f"{path} is not the log of a training run; choose another file")
    return header, lines


@dataclass(frozen=True)
class TensorBoardLog:
    """A folder of event files for TensorBoard: the losses, the learning rate, the speed and the validation by step.

    What a resumed run does again replaces what was shown of it.

    Args:
        directory: the folder; it is made where there is none.
    """

    directory: str | os.PathLike[str]

    @contextmanager
    def open(self, step: int, *, resume: bool) -> Iterator[Listener]:
        """See `Log`.

        Raises:
            DataError: TensorBoard is not installed, or the folder holds another run.
        """
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise DataError("a TensorBoard log needs tensorboard: pip install 'clarkia[logs]'") from error
        if not resume and any(Path(self.directory).glob("events.out.tfevents.*")):
            raise DataError(f"{self.directory} holds the log of another run: resume it, or choose another folder")
        writer = SummaryWriter(os.fspath(self.directory), purge_step=step + 1 if resume else None)

        def tell(status: Status) -> None:
            numbers = {f"loss/{name}": value for name, value in status.losses.items()}
            numbers |= {"training/steps_per_second": status.steps_per_second}
            if status.learning_rate is not None:
                numbers["training/learning_rate"] = status.learning_rate
            if status.validation is not None and status.validated:
                numbers["validation"] = status.validation
            for name, value in numbers.items():
                writer.add_scalar(name, value, status.step)

        try:
            yield tell
        finally:
            writer.close()
