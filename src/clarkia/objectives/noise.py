"""Which noise levels a Gaussian loss is trained at: laws of ``ln s`` with ``s = sigma / alpha``.

All Gaussian processes are one on this axis, so a law serves them all: the logit-normal times of a rectified flow are a
log-normal noise level, because there ``ln s = ln t - ln(1 - t)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.processes import Gaussian
from clarkia.random import Noise

LOWEST, HIGHEST = math.log(1e-6), math.log(1e6)
"""Least and largest ``ln s`` of a training draw: beyond, single precision cannot tell a state from data or noise."""

_LEAST_TIME = 1e-30  # a process is clean at t = 0 itself; just above stands its least noise


class NoiseLevels(Protocol):
    """A law of ``ln s``, given by its quantiles."""

    def quantile(self, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The ``ln s`` below which a share u of the draws lies, float64."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """Normal ``ln s``. The defaults are EDM's; EDM2's are (-0.4, 1.0) for latents, (-0.8, 1.6) for 64-pixel images.

    Args:
        mean: Mean of ``ln s``.
        std: Its standard deviation.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)

    def quantile(self, u: Tensor) -> Tensor:
        """Quantiles of ``ln s``."""
        return self.mean + self.std * torch.special.ndtri(u.double())


@dataclass(frozen=True)
class LogitNormal:
    """Times of a rectified flow with normal ``logit t``, which is `LogNormal` with the same two numbers.

    Args:
        mean: Mean of ``logit t``.
        std: Its standard deviation.

    Source: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (2024).
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)

    def quantile(self, u: Tensor) -> Tensor:
        """Quantiles of ``ln s``."""
        return self.mean + self.std * torch.special.ndtri(u.double())


@dataclass(frozen=True)
class UniformTime:
    """Times of a process that are uniform in (0, 1), pushed through its ``ln s``.

    Args:
        process: The Gaussian process; with a schedule a column, quantiles are ``(n, columns)``.
    """

    process: Gaussian

    def quantile(self, u: Tensor) -> Tensor:
        """Quantiles of ``ln s``."""
        ratio = self.process.kappa(u.double().clamp(min=_LEAST_TIME).unsqueeze(-1)).log()
        return ratio.squeeze(-1) if ratio.shape[-1] == 1 else ratio


@dataclass(frozen=True)
class Shifted:
    """Another law moved towards noise, as larger images need: times of a flow go to ``k t / (1 + (k - 1) t)``.

    Args:
        levels: The law.
        shift: k > 0; adds ``ln k`` to every ``ln s``.

    Source: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (2024).
    """

    levels: NoiseLevels
    shift: float

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift: expected a positive number, found {self.shift}.")

    def quantile(self, u: Tensor) -> Tensor:
        """Quantiles of ``ln s``."""
        return self.levels.quantile(u) + math.log(self.shift)


def draw_levels(
    levels: NoiseLevels, n: int, generator: Noise = None, *, device: torch.device | str | None = None
) -> Float[Tensor, "n ..."]:
    """One ``ln s`` a row, float64, stratified over the batch: one draw in each n-th of the law.

    Args:
        levels: The law.
        n: Rows.
        generator: Source of randomness.
        device: Where the draws live.
    """
    # Half an ulp off the ends, where the quantiles of a normal law are infinite.
    u = stratified(n, generator, device=device).clamp(2**-54, 1 - 2**-53)
    return levels.quantile(u).clamp(LOWEST, HIGHEST)


def time_of(process: Gaussian, log_ratio: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Where a process has these noise levels: float64 times in (0, 1], at its own ends where it never gets there."""
    return process.t_of_kappa(log_ratio.double().exp()).clamp(_LEAST_TIME, 1.0)


def _check_normal(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"mean, std: expected a finite mean and a positive std, found {mean} and {std}.")


EDM_LEVELS = LogNormal()
"""EDM's noise levels, for data of standard deviation 0.5."""
