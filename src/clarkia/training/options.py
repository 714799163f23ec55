"""What a training run is told: plain numbers, checked once."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import DataError

Decay = Literal["cosine", "constant"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The settings of `training.fit`.

    At least one of `max_steps` and `max_minutes` is needed; with both, the first one reached ends the run. The learning
    rate follows the fraction of the budget that is spent, max(step / max_steps, elapsed / max_minutes).

    Attributes:
        batch_size: rows of a step.
        learning_rate: its peak value.
        weight_decay: decoupled decay of the weight matrices (vectors, that is biases and gains, are never decayed).
        betas: AdamW's two averaging factors.
        warmup_steps: steps over which the learning rate rises linearly from zero to its peak.
        max_steps: the budget in steps.
        max_minutes: the budget in minutes of wall time, validation and checkpoints included.
        decay: the course of the learning rate after the warm-up.
        final_fraction: the share of the peak learning rate that a cosine decay ends at.
        clip_norm: the largest Euclidean norm of the whole gradient; None does not clip.
        ema_decay: decay d of the weight average, warmed up as min(d, (1 + step) / (10 + step)).
        validate_every: steps between two validations.
        patience: validations without improvement after which the run ends; None never ends early.
        precision: arithmetic of the network; bfloat16 is autocast, weights and averages stay in float32.
        checkpoint_minutes: minutes between two checkpoints.
        seed: fixes the order of the rows and all the noise.

    Raises:
        DataError: a value is out of its range.
    """

    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 100
    max_steps: int | None = None
    max_minutes: float | None = None
    decay: Decay = "cosine"
    final_fraction: float = 0.0
    clip_norm: float | None = 1.0
    ema_decay: float = 0.999
    validate_every: int = 500
    patience: int | None = None
    precision: Precision = "float32"
    checkpoint_minutes: float = 0.25
    seed: int = 0

    def __post_init__(self):
        _require(self.max_steps is not None or self.max_minutes is not None, "max_steps or max_minutes", "be given")
        _require(self.max_steps is None or _whole(self.max_steps, 1), "max_steps", "be a positive whole number")
        _require(self.max_minutes is None or _real(self.max_minutes) > 0, "max_minutes", "be a positive number")
        _require(_whole(self.batch_size, 1), "batch_size", "be a positive whole number")
        _require(_real(self.learning_rate) > 0, "learning_rate", "be a positive number")
        _require(_real(self.weight_decay) >= 0, "weight_decay", "be zero or a positive number")
        _require(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "be two numbers in [0, 1)")
        _require(_whole(self.warmup_steps, 0), "warmup_steps", "be zero or a positive whole number")
        _require(self.decay in get_args(Decay), "decay", f"be one of {get_args(Decay)}")
        _require(0 <= self.final_fraction <= 1, "final_fraction", "lie between 0 and 1")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "be a positive number or None")
        _require(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)")
        _require(_whole(self.validate_every, 1), "validate_every", "be a positive whole number")
        _require(self.patience is None or _whole(self.patience, 1), "patience", "be a positive whole number or None")
        _require(self.precision in get_args(Precision), "precision", f"be one of {get_args(Precision)}")
        _require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "be zero or a positive number")
        _require(_whole(self.seed, 0), "seed", "be zero or a positive whole number")

    def fraction(self, step: int, seconds: float) -> float:
        """Share of the budget that is spent, in [0, 1], after `step` steps and `seconds` seconds."""
        by_steps = step / self.max_steps if self.max_steps else 0.0
        by_time = seconds / (60 * self.max_minutes) if self.max_minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate of the step that follows `step` finished steps and `seconds` seconds."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.decay == "constant":
            return self.learning_rate * warmup
        falling = 0.5 * (1.0 + math.cos(math.pi * self.fraction(step, seconds)))
        return self.learning_rate * warmup * (self.final_fraction + (1.0 - self.final_fraction) * falling)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: float) -> float:
    """The number itself where it is finite, else minus infinity, which no range admits."""
    return value if math.isfinite(value) else -math.inf


def _require(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise DataError(f"training option {name} must {rule}")
