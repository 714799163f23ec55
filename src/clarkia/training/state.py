"""All that a training run is at a moment, and its translation to a checkpoint and back."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from .checkpoints import check_same, load_checkpoint, save_checkpoint
from .ema import PowerAverage, WeightAverage, snapshot, write
from .optimizers import optimizers_of
from .options import TrainingOptions
from .processes import Processes
from .trainee import Trainee


class TrainingState:
    """The weights with their optimizers and averages, the best weights so far, and the counters.

    Args:
        trainee: the module in training; of a module that is cut up among processes each has its part in here.
        processes: those that train it.
        options: the settings of the run.
        data_fingerprint: checksum of the data, kept with each checkpoint.

    Attributes:
        step: finished steps.
        seconds: time spent up to the last checkpoint of an earlier part of the run, 0 in a fresh one.
        validated_step: the step of the last validation, -1 before the first.
        validation, best_validation, best_step, stale: the last and the best value, where the best was, and the number
            of validations since.
        sums: for each loss its sum over `counted` steps, those since the last entry of the history.
        history: a record every `validate_every` steps.
    """

    def __init__(self, trainee: Trainee, processes: Processes, options: TrainingOptions, data_fingerprint: int):
        self.trainee, self.processes = trainee, processes
        self.options, self.data_fingerprint = options, data_fingerprint
        self.optimizers = optimizers_of(trainee, options)
        # By weight what its optimiser keeps of it.
        self.moments = {
            weight: optimizer.state
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
        }
        self.average = WeightAverage(trainee.followed, options.ema_decay)
        self.power_averages = [PowerAverage(trainee.followed, sigma) for sigma in options.ema_sigmas]
        self.best_weights: dict[str, Tensor] | None = None
        self.step, self.seconds, self.validated_step = 0, 0.0, -1
        self.validation: float | None = None
        self.best_validation: float | None = None
        self.best_step, self.stale = 0, 0
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.history: list[dict[str, Any]] = []

    def update(self, norm: Tensor, rate: float) -> None:
        """Move weights and averages by the gradient at hand, and count the step.

        Args:
            norm: Euclidean norm of the gradient.
            rate: the learning rate.
        """
        if self.options.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(list(self.moments), self.options.clip_norm, norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.trainee.clear_gradients()
        for average in (self.average, *self.power_averages):
            average.update(self.step)
        self.step += 1

    def kept_weights(self) -> dict[str, Tensor]:
        """The weights that the run is after: the best averaged ones where there was a validation, else the latest."""
        return self.average.weights if self.best_weights is None else self.best_weights

    def record_validation(self, value: float) -> None:
        """Take note of a validation of the current averaged weights, and keep them if it is the best."""
        self.validation, self.validated_step = value, self.step
        if self.best_validation is None or value < self.best_validation:
            self.best_validation, self.best_step, self.stale = value, self.step, 0
            self.best_weights = snapshot(self.average.weights)
        else:
            self.stale += 1

    def count_readings(self, readings: list[dict[str, float]]) -> None:
        """Add the losses of steps to those of the coming entry of the history."""
        for reading in readings:
            for name, value in reading.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.counted += len(readings)

    def record(self, seconds: float) -> dict[str, Any]:
        """Write a line of history with the mean losses since the line before."""
        means = {name: total / self.counted for name, total in self.sums.items()}
        self.history.append({"step": self.step, "seconds": seconds, "validation": self.validation, **means})
        self.sums, self.counted = {}, 0
        return self.history[-1]

    def save(self, path: str | os.PathLike[str], seconds: float) -> None:
        """Write everything to a checkpoint file; all processes call this, the main one writes."""
        tensors = {}
        for key, name, part in self._everything():
            whole = part if name is None else self.trainee.whole(name, part)
            if self.processes.main:
                tensors[key] = (
                    whole if whole is part else whole.cpu()
                )  # what was put together leaves the device at once
        counters = {name: getattr(self, name) for name in _COUNTERS}
        run = {"options": asdict(self.options), "data_fingerprint": self.data_fingerprint, "seconds": seconds}
        if self.processes.main:
            save_checkpoint(path, tensors, {**run, **counters})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint file.

        Raises:
            DataError: the file is damaged, or belongs to another network, other data or another order of the rows.
        """
        tensors, record = load_checkpoint(path)
        weights, best = _under("weights", tensors), _under("best", tensors)
        check_same(path, weights, self.trainee.layout)
        try:
            self._check_origin(path, record)
            counters = {name: record[name] for name in _COUNTERS}
            self.seconds = float(record["seconds"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not a readable checkpoint; delete it to start again") from error
        write(self.trainee.followed.state_dict(), self._parts(weights))
        for prefix, averaged in self._averages():
            saved = _under(prefix, tensors)
            check_same(path, saved, {name: self.trainee.layout[name].to(averaged[name].dtype) for name in averaged})
            write(averaged, self._parts(saved))
        if best:
            check_same(path, best, self.trainee.layout)
            self.best_weights = snapshot(self.average.weights)
            write(self.best_weights, self._parts(best))
        self._load_moments(path, tensors)
        for name, value in counters.items():
            setattr(self, name, value)

    def _load_moments(self, path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trainee.followed.named_parameters():
            saved = _under(f"optimizer/{name}", tensors)
            moments = {key: value for key, value in saved.items() if _is_moment(key)}
            check_same(path, moments, dict.fromkeys(moments, self.trainee.layout[name]))
            saved |= {key: self.trainee.part(name, value) for key, value in moments.items()}
            if saved:
                self.moments[parameter][parameter] = {key: value.to(parameter.device) for key, value in saved.items()}

    def _averages(self) -> list[tuple[str, dict[str, Tensor]]]:
        """All averages with their names in a checkpoint."""
        power = [(f"power {average.sigma_rel:g}", average.weights) for average in self.power_averages]
        return [("average", self.average.weights), *power]

    def _everything(self) -> Iterator[tuple[str, str | None, Tensor]]:
        """Every tensor of a checkpoint: its key, the weight it lies beside, and this process's part of it."""
        groups = [("weights", self.trainee.followed.state_dict()), *self._averages(), ("best", self.best_weights or {})]
        for prefix, tensors in groups:
            for name, part in tensors.items():
                yield f"{prefix}/{name}", name, part
        for name, parameter in self.trainee.followed.named_parameters():
            for key, value in self.moments.get(parameter, {}).get(parameter, {}).items():
                yield f"optimizer/{name}/{key}", name if _is_moment(key) else None, value

    def _parts(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.trainee.part(name, whole) for name, whole in wholes.items()}

    def _check_origin(self, path: str | os.PathLike[str], record: dict[str, Any]) -> None:
        if record["data_fingerprint"] != self.data_fingerprint:
            raise DataError(f"the checkpoint {path} was made on different data; delete it to start again")
        for name in ("seed", "batch_size", "ema_sigmas", "optimizer"):
            saved, given = record["options"].get(name, getattr(TrainingOptions, name)), getattr(self.options, name)
            saved = tuple(saved) if isinstance(saved, list) else saved
            if saved != given:
                raise DataError(f"the checkpoint {path} was made with {name}={saved}, not {given}; use the same {name}")


_COUNTERS = (
    *("step", "validated_step", "validation", "best_validation", "best_step", "stale"),
    *("sums", "counted", "history"),
)


def _is_moment(key: str) -> bool:
    """Whether something that the optimiser keeps has the shape of its weight; the count of steps is one number."""
    return key != "step"


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
