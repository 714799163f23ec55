"""What a training run is told: plain numbers, checked once."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import DataError

Decay = Literal["cosine", "constant", "inverse_sqrt"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["float32", "bfloat16"]
Strategy = Literal["auto", "ddp", "fsdp"]

PEAKS: dict[Optimizer, float] = {"adamw": 1e-3, "muon": 5e-3}
"""Learning rates that suit networks of some hundred thousand to some million weights."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The settings of `training.fit`.

    At least one of `max_steps` and `max_minutes` is needed; with both, the first one reached ends the run. The learning
    rate follows the fraction of the budget that is spent, max(step / max_steps, elapsed / max_minutes).

    Attributes:
        batch_size: rows of a step, those of all processes together.
        accumulate: number of parts in which the rows that a process takes of a step go through the network, to save
            memory; the gradient is that of the whole to rounding, dropout masks apart.
        optimizer: "adamw"; or "muon", which moves the weights of linear layers and convolutions in a network's blocks
            by orthogonalised momentum, at the same learning rate, and leaves the others to AdamW.
        learning_rate: its peak value; by default 0.001 of AdamW and 0.005 of Muon.
        weight_decay: decoupled decay of the weight matrices (vectors, that is biases and gains, are never decayed).
        betas: AdamW's two averaging factors.
        warmup_steps: steps over which the learning rate rises linearly from zero to its peak.
        max_steps: the budget in steps.
        max_minutes: the budget in minutes of wall time, validation and checkpoints included.
        decay: the course of the learning rate after the warm-up: "cosine" falls over the budget, "inverse_sqrt" stays
            for `decay_steps` and falls with the square root of the steps from there on, whatever the budget.
        decay_steps: steps before an inverse square root begins to fall.
        final_fraction: the share of the peak learning rate that a cosine decay ends at.
        clip_norm: the largest Euclidean norm of the whole gradient; None does not clip.
        ema_decay: decay d of the weight average, warmed up as min(d, (1 + step) / (10 + step)).
        ema_sigmas: relative widths of further averages with power-function profiles, which are kept in checkpoints and
            snapshots.
        snapshot_every: steps between two snapshots of the averages of `ema_sigmas`, from which an average of any width
            can be made afterwards; they are kept in a folder beside the checkpoint.
        validate_every: steps between two validations.
        patience: validations without improvement after which the run ends; None never ends early.
        precision: arithmetic of the network; bfloat16 is autocast, weights and averages stay in float32.
        compile: whether the module is compiled; the names of its weights stay as they are.
        strategy: how several processes share the work: "ddp" has the whole module on each; "fsdp" cuts weights, moments
            and averages up among them; "auto" cuts up what would fill more than half of a device.
        timeout_minutes: how long a process waits for another one, which may be validating, before it gives up.
        read_ahead: batches of a source that are read in the background beyond the one in use; 0 for none.
        checkpoint_minutes: minutes between two checkpoints.
        seed: fixes the order of the rows and all the noise.

    Raises:
        DataError: a value is out of its range.
    """

    batch_size: int = 1024
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 100
    max_steps: int | None = None
    max_minutes: float | None = None
    decay: Decay = "cosine"
    final_fraction: float = 0.0
    decay_steps: int = 70_000
    clip_norm: float | None = 1.0
    ema_decay: float = 0.999
    ema_sigmas: tuple[float, ...] = ()
    snapshot_every: int | None = None
    validate_every: int = 500
    patience: int | None = None
    precision: Precision = "float32"
    compile: bool = False
    strategy: Strategy = "auto"
    timeout_minutes: float = 30.0
    read_ahead: int = 4
    checkpoint_minutes: float = 0.25
    seed: int = 0

    def __post_init__(self):
        _require(self.max_steps is not None or self.max_minutes is not None, "max_steps or max_minutes", "be given")
        _require(self.max_steps is None or _whole(self.max_steps, 1), "max_steps", "be a positive whole number")
        _require(self.max_minutes is None or _real(self.max_minutes) > 0, "max_minutes", "be a positive number")
        _require(_whole(self.batch_size, 1), "batch_size", "be a positive whole number")
        _require(_whole(self.accumulate, 1), "accumulate", "be a positive whole number")
        _require(self.accumulate <= self.batch_size, "accumulate", "be no more than batch_size")
        _require(self.optimizer in get_args(Optimizer), "optimizer", f"be one of {get_args(Optimizer)}")
        _require(_real(self.peak) > 0, "learning_rate", "be a positive number")
        _require(_real(self.weight_decay) >= 0, "weight_decay", "be zero or a positive number")
        _require(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "be two numbers in [0, 1)")
        _require(_whole(self.warmup_steps, 0), "warmup_steps", "be zero or a positive whole number")
        _require(self.decay in get_args(Decay), "decay", f"be one of {get_args(Decay)}")
        _require(_whole(self.decay_steps, 1), "decay_steps", "be a positive whole number")
        _require(0 <= self.final_fraction <= 1, "final_fraction", "lie between 0 and 1")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "be a positive number or None")
        _require(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)")
        # The widest profile of all, a plain mean over the run, has the relative width 1 / sqrt(12).
        _require(all(0 < s <= 12**-0.5 for s in self.ema_sigmas), "ema_sigmas", "lie between 0 and 0.288")
        _require(len(set(self.ema_sigmas)) == len(self.ema_sigmas), "ema_sigmas", "be different from each other")
        every = self.snapshot_every
        _require(every is None or _whole(every, 1), "snapshot_every", "be a positive whole number or None")
        _require(every is None or bool(self.ema_sigmas), "snapshot_every", "be None where there are no ema_sigmas")
        _require(_whole(self.validate_every, 1), "validate_every", "be a positive whole number")
        _require(self.patience is None or _whole(self.patience, 1), "patience", "be a positive whole number or None")
        _require(self.precision in get_args(Precision), "precision", f"be one of {get_args(Precision)}")
        _require(isinstance(self.compile, bool), "compile", "be true or false")
        _require(self.strategy in get_args(Strategy), "strategy", f"be one of {get_args(Strategy)}")
        _require(_real(self.timeout_minutes) > 0, "timeout_minutes", "be a positive number")
        _require(_whole(self.read_ahead, 0), "read_ahead", "be zero or a positive whole number")
        _require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "be zero or a positive number")
        _require(_whole(self.seed, 0), "seed", "be zero or a positive whole number")

    @property
    def peak(self) -> float:
        """The peak learning rate."""
        return PEAKS[self.optimizer] if self.learning_rate is None else self.learning_rate

    def fraction(self, step: int, seconds: float) -> float:
        """Share of the budget that is spent, in [0, 1], after `step` steps and `seconds` seconds."""
        by_steps = step / self.max_steps if self.max_steps else 0.0
        by_time = seconds / (60 * self.max_minutes) if self.max_minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate of the step that follows `step` finished steps and `seconds` seconds.

        Source of "inverse_sqrt": Analyzing and Improving the Training Dynamics of Diffusion Models (2024).
        """
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.decay == "constant":
            return self.peak * warmup
        if self.decay == "inverse_sqrt":
            return self.peak * warmup / math.sqrt(max(step / self.decay_steps, 1.0))
        falling = 0.5 * (1.0 + math.cos(math.pi * self.fraction(step, seconds)))
        return self.peak * warmup * (self.final_fraction + (1.0 - self.final_fraction) * falling)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: float) -> float:
    """The number itself where it is finite, else minus infinity, which no range admits."""
    return value if math.isfinite(value) else -math.inf


def _require(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise DataError(f"training option {name} must {rule}")
