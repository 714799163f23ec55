"""Noisy copies of rows on which all classes are tried, and what a wrong guess costs there in nats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.measures.likelihood.discrete import cross_entropy, rate_divergence
from clarkia.processes import Gaussian, Masked, Mixed, Process, spread
from clarkia.random import Noise, rand, randn
from clarkia.schedules.grids import kappa_range
from clarkia.spaces import State

Weight: TypeAlias = Literal["logsnr", "uniform_t"] | Callable[[Tensor], Tensor]
Distance: TypeAlias = Literal["squared", "norm", "absolute"]

LEAST_TIME = 1e-6
"""A process is clean at t = 0 itself, so the least noise is looked for this far above it."""

_PIECES = 1024  # of the map from a uniform number to a time of several blocks


@dataclass(frozen=True, eq=False)
class Trial:
    """Noisy rows, the same for all classes.

    Attributes:
        x_t: The noisy rows.
        t: Their times ``(n,)``, float64.
        error: ``error(prediction, rows) -> (k,)``, float64: the cost of predictions for k of the rows, by number.
    """

    x_t: State
    t: Tensor
    error: Callable[[Any, Tensor], Tensor]


class Trials(Protocol):
    """How rows of one kind are made noisy, and what predictions of them cost.

    The mean cost over u uniform in [0, 1) and over the noise is minus the log-likelihood up to a constant.
    """

    def noise(self, x: Any, generator: Noise) -> Any:
        """What is drawn for one copy of every row."""
        ...

    def opposite(self, noise: Any) -> Any:
        """As likely a draw, as far from this one as can be."""
        ...

    def trial(self, x: Any, u: Tensor, noise: Any) -> Trial:
        """The copies at levels of noise that u ``(n,)`` says, the most noise at u = 1."""
        ...

    def level(self, u: Tensor) -> Tensor:
        """What u means: a log-SNR, a time, or the share of masked cells."""
        ...


def trials_of(
    process: Process, weight: Weight, distance: Distance, log_snr_range: tuple[float, float] | None
) -> Trials:
    """The trials that suit a process; see `diffusion_classifier` for the arguments.

    Raises:
        ValueError: A process that is none of the supported, or a weight, distance or range that it has no use for.
    """
    if distance not in ("squared", "norm", "absolute"):
        raise ValueError(f"distance: expected 'squared', 'norm' or 'absolute', found {distance!r}.")
    if not callable(weight) and weight not in ("logsnr", "uniform_t"):
        raise ValueError(f"weight: expected 'logsnr', 'uniform_t' or a function of the log-SNR, found {weight!r}.")
    if isinstance(process, Gaussian):
        return GaussianTrials(process, weight, distance, *_log_snr_range(process, log_snr_range))
    if weight != "logsnr" or distance != "squared":
        raise ValueError(f"weight, distance: expected the exact ones for a {type(process).__name__} process.")
    if isinstance(process, Masked) and log_snr_range is None:
        return MaskedTrials(process)
    if isinstance(process, Mixed) and all(isinstance(part, Gaussian | Masked) for part in process.blocks.values()):
        return MixedTrials.of(process, log_snr_range)
    raise ValueError(f"process: expected a Gaussian, masked or mixed process of these, found {process!r}.")


@dataclass(frozen=True, eq=False)
class GaussianTrials:
    """Errors of the noise prediction at levels spread evenly in log-SNR (or, of ``"uniform_t"``, in time)."""

    process: Gaussian
    weight: Weight
    distance: Distance
    low: float
    high: float

    def noise(self, x: Tensor, generator: Noise) -> Tensor:
        """Standard normal numbers."""
        return randn(x.shape, generator, dtype=torch.float64, device=x.device)

    def opposite(self, noise: Tensor) -> Tensor:
        """The same with the other sign."""
        return -noise

    def level(self, u: Tensor) -> Tensor:
        """The log-SNR, or the time."""
        return u if self.weight == "uniform_t" else self.high - u * (self.high - self.low)

    def trial(self, x: Tensor, u: Tensor, noise: Tensor) -> Trial:
        """Noisy rows with the errors of their noise, weighted as asked."""
        level = self.level(u)
        if self.weight == "uniform_t":
            t, weight = level.clamp(min=LEAST_TIME), torch.ones_like(level)
        else:
            t, weight = self._time(level)
            weight = 0.5 * (self.high - self.low) * weight
            if callable(self.weight):
                weight = weight * spread(self.weight(level).double(), weight)
        x_t, gap = _noisy(self.process, x, t, noise)
        weight = spread(weight, x)

        def error(x0_hat: Tensor, rows: Tensor) -> Tensor:
            away, scale = gap(x0_hat, rows), weight[rows]
            if self.distance == "squared":
                return _rows(scale * away.square())
            if self.distance == "absolute":
                return _rows(scale * away.abs())
            return _rows((scale * away).square()).sqrt()

        return Trial(x_t, t, error)

    def _time(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Time at which the log-SNR is a level, and its exact weight, 1; of several schedules, their mean time.

        There each column's own log-SNR moves at its own pace, and that pace is its weight.
        """
        t = self.process.t_of_kappa(torch.exp(-0.5 * level)).clamp(LEAST_TIME, 1.0)
        if t.ndim == 1:
            return t, torch.ones_like(t)
        mean = t.mean(1)
        pace = (1 / _log_snr_rate(self.process, t)).mean(1, keepdim=True)
        return mean, _log_snr_rate(self.process, mean[:, None]).expand(t.shape) * pace


@dataclass(frozen=True, eq=False)
class MaskedTrials:
    """Nats of masked cells, by their number where all cells share a schedule, by time elsewhere."""

    process: Masked

    def noise(self, x: Tensor, generator: Noise) -> Tensor:
        """A number in [0, 1) a cell, by whose order cells are masked."""
        return rand(x.shape, generator, device=x.device)

    def opposite(self, noise: Tensor) -> Tensor:
        """The reverse order."""
        return 1 - noise

    def level(self, u: Tensor) -> Tensor:
        """The share of masked cells."""
        return u

    def trial(self, x: Tensor, u: Tensor, noise: Tensor) -> Trial:
        """Rows with c masked cells, whose nats count L / c; c uniform in 1 ... L."""
        if self.process.alpha(torch.full((1,), 0.5)).numel() > 1:
            return _masked_at(self.process, x, u.square(), 2 * u, noise)
        cells = noise.reshape(len(x), -1)
        length = cells.shape[1]
        count = (u * length).long().clamp(max=length - 1) + 1
        last = cells.sort(1).values.gather(1, count[:, None] - 1)
        masked = (cells <= last).reshape(x.shape)
        x_t = torch.where(masked, self.process.mask_state(x.device), x)
        t = self.process.schedule.t_of_alpha(1 - last[:, 0]).clamp(0, 1)
        weight = length / count

        def error(log_probs: Tensor, rows: Tensor) -> Tensor:
            return weight[rows] * cross_entropy(x[rows], log_probs.double(), masked[rows])

        return Trial(x_t, t, error)


@dataclass(frozen=True, eq=False)
class MixedTrials:
    """Nats of all blocks at one shared time, along which each block's likelihood is gathered at its own pace.

    Attributes:
        process: Gaussian and masked blocks.
        nodes: Increasing times; t is linear in u between them, so the mean over u is the integral over time whatever
            the nodes, and they only decide where draws are dense.
        ranges: Lowest and highest log-SNR of the Gaussian blocks, by name.
    """

    process: Mixed
    nodes: Tensor
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, process: Mixed, log_snr_range: tuple[float, float] | None) -> MixedTrials:
        """Trials whose times suit every block: even in log-SNR for one, in the root of time for the other."""
        gaussian = {name: part for name, part in process.blocks.items() if isinstance(part, Gaussian)}
        ranges = {name: _log_snr_range(part, log_snr_range) for name, part in gaussian.items()}
        even = torch.linspace(0, 1, 1025, dtype=torch.float64)
        times, shares = [even.square()], []
        for name, part in gaussian.items():
            low, high = ranges[name]
            t = part.t_of_kappa(torch.exp(-0.5 * (high - even * (high - low))))
            times.append((t.mean(1) if t.ndim > 1 else t).clamp(LEAST_TIME, 1.0))
        grid = torch.cat(times).unique()
        for name, part in process.blocks.items():
            if isinstance(part, Gaussian):
                low, high = ranges[name]
                level = part.log_snr(grid).reshape(len(grid), -1)
                shares.append(((high - level.clamp(low, high)) / (high - low)).mean(1))
            else:
                shares.append(grid.sqrt())
        share = torch.stack(shares).mean(0)
        places = np.linspace(0, 1, _PIECES + 1)
        nodes = torch.from_numpy(np.interp(places, share.numpy(), grid.numpy()))
        nodes[0], nodes[-1] = grid[share <= 0].max(), grid[share >= 1].min()
        return cls(process, nodes, ranges)

    def noise(self, x: State, generator: Noise) -> State:
        """What each block draws."""
        return {name: trials.noise(block, generator) for name, trials, block in self._each(x)}

    def opposite(self, noise: State) -> State:
        """The opposite of each block's."""
        return {name: trials.opposite(block) for name, trials, block in self._each(noise)}

    def level(self, u: Tensor) -> Tensor:
        """The time."""
        return self._time(u)[0]

    def trial(self, x: State, u: Tensor, noise: State) -> Trial:
        """Noisy rows with the nats of all blocks together."""
        t, pace = self._time(u)
        parts = {}
        for name, part, block in self.process.each(x, "x"):
            if isinstance(part, Masked):
                parts[name] = _masked_at(part, block, t, pace, noise[name])  # type: ignore[call-overload]
            else:
                parts[name] = self._numbers(name, part, block, t, pace, noise[name])  # type: ignore[call-overload]

        def error(prediction: Any, rows: Tensor) -> Tensor:
            return sum((part.error(prediction[name], rows) for name, part in parts.items()), torch.zeros(()))

        return Trial({name: part.x_t for name, part in parts.items()}, t, error)  # type: ignore[misc]

    def _numbers(self, name: str, process: Gaussian, x: Tensor, t: Tensor, pace: Tensor, noise: Tensor) -> Trial:
        """Half the squared error of the noise a unit of log-SNR, within the range."""
        (low, high), level = self.ranges[name], process.log_snr(spread(t, x))
        inside = (level >= low) & (level <= high)
        weight = torch.where(inside, 0.5 * _log_snr_rate(process, spread(t, x)) * spread(pace, x), 0.0)
        x_t, gap = _noisy(process, x, t, noise)
        weight = weight.expand(len(x), *weight.shape[1:])
        return Trial(x_t, t, lambda x0_hat, rows: _rows(weight[rows] * gap(x0_hat, rows).square()))

    def _time(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Time and how fast it moves with u."""
        nodes = self.nodes.to(u.device)
        cell = (u * _PIECES).long().clamp(max=_PIECES - 1)
        width = nodes[cell + 1] - nodes[cell]
        return nodes[cell] + (u * _PIECES - cell) * width, width * _PIECES

    def _each(self, state: State) -> Any:
        for name, part, block in self.process.each(state, "x"):
            kind = MaskedTrials(part) if isinstance(part, Masked) else GaussianTrials(part, "logsnr", "squared", 0, 1)
            yield name, kind, block


def _masked_at(process: Masked, x: Tensor, t: Tensor, pace: Tensor, noise: Tensor) -> Trial:
    """Rows masked to a time, with the integrand of the masked bound there."""
    x_t = torch.where(noise < process.alpha(spread(t, x)), x, process.mask_state(x.device))

    def error(log_probs: Tensor, rows: Tensor) -> Tensor:
        return pace[rows] * rate_divergence(process, x[rows], x_t[rows], log_probs.double(), t[rows])

    return Trial(x_t, t, error)


def _noisy(process: Gaussian, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
    """Noisy rows, and the error of the noise that a prediction for some of them means: ``alpha / sigma`` times its own.

    No division by alpha is made, so pure noise costs nothing whatever is predicted.
    """
    alpha, sigma = process.coefficients(t, x.double())
    ratio = alpha / sigma
    ratio = ratio.expand(len(x), *ratio.shape[1:])

    def gap(x0_hat: Tensor, rows: Tensor) -> Tensor:
        return ratio[rows] * (x[rows].double() - x0_hat.double())

    return (alpha * x.double() + sigma * noise).to(x.dtype), gap


def _log_snr_rate(process: Gaussian, t: Tensor) -> Tensor:
    """How fast the log-SNR falls with time."""
    return 2 * (process.d_sigma(t) / process.sigma(t) - process.d_alpha(t) / process.alpha(t))


def _log_snr_range(process: Gaussian, given: tuple[float, float] | None) -> tuple[float, float]:
    """Lowest and highest log-SNR.

    Raises:
        ValueError: A range that is empty, or that the process does not reach.
    """
    most, least = kappa_range(process, None, None)
    if given is None:
        return float(-2 * np.log(most)), float(-2 * np.log(least))
    low, high = given
    ends = torch.tensor([1.0, LEAST_TIME], dtype=torch.float64)
    reached = process.log_snr(ends).reshape(2, -1).mean(1)
    if not (low < high and reached[0] <= low + 1e-9 and high <= reached[1] + 1e-9):
        within = f"{float(reached[0]):.3g} to {float(reached[1]):.3g}"
        raise ValueError(f"log_snr_range: expected a lower and a higher log-SNR within {within}, found {given}.")
    return float(low), float(high)


def _rows(values: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    return values.reshape(len(values), -1).sum(1)
