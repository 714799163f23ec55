"""Turn the knobs of a sampler and tabulate what each setting gains and costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from clarkia.measures.fronts.dominance import front_probability, pareto_mask
from clarkia.measures.fronts.hypervolume import Hypervolume, hypervolume, hypervolume_interval
from clarkia.measures.intervals import LEVEL, Interval
from clarkia.random import generator as stream

Better: TypeAlias = Literal["higher", "lower"]
Sampler: TypeAlias = Callable[[Any, int, torch.Generator], Any]
"""``sampler(condition, n, generator) -> samples`` of one condition."""


@dataclass(frozen=True)
class PerCondition:
    """An axis that is computed within the samples of each condition and averaged over conditions.

    Attributes:
        function: ``function(samples, condition) -> float``.
        better: Whether higher or lower numbers are better.
    """

    function: Callable[[Any, Any], Any]
    better: Better = "higher"

    def __call__(self, samples: Sequence[Any], conditions: Sequence[Any]) -> float:
        """The mean over conditions."""
        pairs = zip(samples, conditions, strict=True)
        return math.fsum(float(self.function(*pair)) for pair in pairs) / len(conditions)


@dataclass(frozen=True)
class Pooled:
    """An axis that is computed once on the samples of all conditions.

    Attributes:
        function: ``function(samples) -> float``, called with the list of every condition's samples.
        better: Whether higher or lower numbers are better.
    """

    function: Callable[[Sequence[Any]], Any]
    better: Better = "higher"

    def __call__(self, samples: Sequence[Any], conditions: Sequence[Any]) -> float:
        """The number of the pooled samples."""
        return float(self.function(samples))


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep measured.

    Attributes:
        settings: One dict of knob values a setting, k of them, in the order of the grid's product.
        axes: Names of the axes, a of them.
        better: Direction of each axis.
        draws: The measured numbers of every setting, seed and axis, float64 ``(k, seeds, a)``.
    """

    settings: tuple[Mapping[str, Any], ...]
    axes: tuple[str, ...]
    better: tuple[Better, ...]
    draws: Float64[Tensor, "k seeds a"]

    @property
    def values(self) -> Float64[Tensor, "k a"]:
        """Means over seeds."""
        return self.draws.mean(1)

    @property
    def standard_errors(self) -> Float64[Tensor, "k a"]:
        """Errors of those means; NaN with one seed."""
        seeds = self.draws.shape[1]
        return self.draws.std(1) / math.sqrt(seeds) if seeds > 1 else torch.full_like(self.values, math.nan)

    @property
    def mask(self) -> Bool[Tensor, " k"]:
        """Settings on the front."""
        return pareto_mask(self._upwards(self.values))

    def replicates(self, num_draws: int = 200, *, seed: int = 0) -> Float64[Tensor, "draws k a"]:
        """Means over resampled seeds, larger is better; the same seeds for all settings, as their noise is common.

        Raises:
            ValueError: A sweep of one seed, which cannot be resampled.
        """
        seeds = self.draws.shape[1]
        if seeds < 2:
            raise ValueError("num_seeds: expected a sweep of at least 2 seeds to resample, found 1.")
        chosen = torch.randint(seeds, (num_draws, seeds), generator=stream(seed))
        return self._upwards(self.draws[:, chosen].mean(2).transpose(0, 1))

    def frame(self) -> Any:
        """A pandas table: knobs, axes, their standard errors, ``on_front`` and, of several seeds, ``front_share``."""
        import pandas as pd

        columns: dict[str, Any] = {knob: [setting[knob] for setting in self.settings] for knob in self.settings[0]}
        columns |= {axis: self.values[:, index].numpy() for index, axis in enumerate(self.axes)}
        columns |= {f"{axis}_se": self.standard_errors[:, index].numpy() for index, axis in enumerate(self.axes)}
        columns["on_front"] = self.mask.numpy()
        if self.draws.shape[1] > 1:
            columns["front_share"] = front_probability(self.replicates()).numpy()
        return pd.DataFrame(columns)

    def hypervolume(self, reference: Mapping[str, float]) -> Hypervolume:
        """Volume dominated by the settings' means, from the worst acceptable value of each axis in its own units."""
        return hypervolume(self._upwards(self.values), self._reference(reference))

    def hypervolume_interval(self, reference: Mapping[str, float], *, level: float = LEVEL) -> Interval:
        """Bootstrap interval of that volume over seeds."""
        return hypervolume_interval(self.replicates(), self._reference(reference), level=level)

    def _upwards(self, values: Tensor) -> Tensor:
        return values * torch.tensor([1.0 if way == "higher" else -1.0 for way in self.better], dtype=torch.float64)

    def _reference(self, reference: Mapping[str, float]) -> Tensor:
        if set(reference) != set(self.axes):
            raise ValueError(f"reference: expected one number for each of {list(self.axes)}, found {list(reference)}.")
        return self._upwards(torch.tensor([float(reference[axis]) for axis in self.axes], dtype=torch.float64))


def sweep(
    make_sampler: Callable[[Mapping[str, Any]], Sampler],
    grid: Mapping[str, Iterable[Any]],
    conditions: Sequence[Any],
    axes: Mapping[str, PerCondition | Pooled],
    *,
    per_condition: int = 50,
    num_seeds: int = 3,
    seed: int = 0,
) -> Sweep:
    """Sample every setting of some knobs for every condition, and measure every axis.

    All settings are sampled with the same streams of randomness, so differences between them are not noise between
    draws. An axis measured by the very model that steers the sampler is circular.

    Args:
        make_sampler: ``make_sampler(setting) -> sampler`` for a dict of knob values such as ``{"scale": 2.0}``.
        grid: For every knob the values to try; all combinations are.
        conditions: What to sample for.
        axes: Named axes, each `PerCondition` or `Pooled`.
        per_condition: Samples of each condition and seed. A diversity within conditions is bounded by it.
        num_seeds: Independent repetitions, whose spread is the standard error.
        seed: Seed of the streams: one for each condition and repetition.

    Returns:
        The table of settings with its front.

    Raises:
        ValueError: An empty grid, no condition, no axis, counts below 1, or an axis that answers with NaN or infinity.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    values = {knob: list(options) for knob, options in grid.items()}
    _check(values, conditions, axes, per_condition=per_condition, num_seeds=num_seeds)
    settings = tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))
    draws = torch.empty(len(settings), num_seeds, len(axes), dtype=torch.float64)
    for row, setting in enumerate(settings):
        sampler = make_sampler(setting)
        for repetition in range(num_seeds):
            samples = [
                sampler(condition, per_condition, stream(seed, repetition, index))
                for index, condition in enumerate(conditions)
            ]
            for column, (name, axis) in enumerate(axes.items()):
                value = axis(samples, conditions)
                if not math.isfinite(value):
                    raise ValueError(f"axes[{name!r}]: expected a finite number, found {value} at {setting}.")
                draws[row, repetition, column] = value
    return Sweep(settings, tuple(axes), tuple(axis.better for axis in axes.values()), draws)


def _check(values: Mapping[str, list[Any]], conditions: Any, axes: Mapping[str, Any], **counts: int) -> None:
    if not values or not all(values.values()):
        raise ValueError(f"grid: expected at least one value of at least one knob, found {dict(values)}.")
    if not len(conditions):
        raise ValueError("conditions: expected at least one, found none.")
    if not axes:
        raise ValueError("axes: expected at least one, found none.")
    for name, axis in axes.items():
        if not isinstance(axis, PerCondition | Pooled):
            raise ValueError(f"axes[{name!r}]: expected PerCondition or Pooled, found {type(axis).__name__}.")
        if axis.better not in ("higher", "lower"):
            raise ValueError(f"axes[{name!r}]: expected better 'higher' or 'lower', found {axis.better!r}.")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, found {count}.")
