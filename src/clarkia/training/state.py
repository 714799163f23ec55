"""All that a training run is at a moment, and its translation to a checkpoint and back."""

import os
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError
from .checkpoints import check_same, load_checkpoint, save_checkpoint
from .ema import WeightAverage, snapshot, write
from .options import TrainingOptions


class TrainingState:
    """The module with its optimizer and average, the best weights so far, and the counters.

    Args:
        module: the module to train.
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

    def __init__(self, module: nn.Module, options: TrainingOptions, data_fingerprint: int):
        self.module, self.options, self.data_fingerprint = module, options, data_fingerprint
        self.optimizer = _adamw(module, options)
        self.average = WeightAverage(module, options.ema_decay)
        self.best_weights: dict[str, Tensor] | None = None
        self.step, self.seconds, self.validated_step = 0, 0.0, -1
        self.validation: float | None = None
        self.best_validation: float | None = None
        self.best_step, self.stale = 0, 0
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.history: list[dict[str, Any]] = []

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

    def save(self, path: str | os.PathLike[str], seconds: float) -> None:
        """Write everything to a checkpoint file."""
        tensors = {
            **_named("weights", self.module.state_dict()),
            **_named("average", self.average.weights),
            **_named("best", self.best_weights or {}),
        }
        for name, parameter in self.module.named_parameters():
            tensors |= _named(f"optimizer/{name}", self.optimizer.state.get(parameter, {}))
        counters = {name: getattr(self, name) for name in _COUNTERS}
        run = {"options": asdict(self.options), "data_fingerprint": self.data_fingerprint, "seconds": seconds}
        save_checkpoint(path, tensors, {**run, **counters})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint file.

        Raises:
            DataError: the file is damaged, or belongs to another network, other data or another order of the rows.
        """
        tensors, record = load_checkpoint(path)
        check_same(path, _under("weights", tensors), self.module.state_dict())
        check_same(path, _under("average", tensors), self.average.weights)
        try:
            self._check_origin(path, record)
            counters = {name: record[name] for name in _COUNTERS}
            self.seconds = float(record["seconds"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not a readable checkpoint; delete it to start again") from error
        write(self.module.state_dict(), _under("weights", tensors))
        write(self.average.weights, _under("average", tensors))
        if best := _under("best", tensors):
            check_same(path, best, self.average.weights)
            self.best_weights = {name: value.to(self.average.weights[name].device) for name, value in best.items()}
        for name, parameter in self.module.named_parameters():
            if moments := _under(f"optimizer/{name}", tensors):
                self.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
        for name, value in counters.items():
            setattr(self, name, value)

    def _check_origin(self, path: str | os.PathLike[str], record: dict[str, Any]) -> None:
        if record["data_fingerprint"] != self.data_fingerprint:
            raise DataError(f"the checkpoint {path} was made on different data; delete it to start again")
        for name in ("seed", "batch_size"):
            saved, given = record["options"][name], getattr(self.options, name)
            if saved != given:
                raise DataError(f"the checkpoint {path} was made with {name}={saved}, not {given}; use the same {name}")


_COUNTERS = (
    *("step", "validated_step", "validation", "best_validation", "best_step", "stale"),
    *("sums", "counted", "history"),
)


def _adamw(module: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW in its fused form (five times the speed of the others on a CPU); only matrices are decayed."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas, fused=True)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
