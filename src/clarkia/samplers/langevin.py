"""Langevin dynamics at one noise level: as a corrector after any solver's step, and annealed, as a sampler of its own.

The chain ``x <- x + a score(x) + sqrt(2 a) z`` leaves the law of ``x_t`` as it is, up to its step a, which is taken
proportional to ``sigma_t^2``: the score of pure noise has the norm of ``z / sigma_t``. The published corrector measures
the ratio of the two norms over the batch, which makes a row depend on its neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.random import Noise, randn
from clarkia.samplers.ddim import DDPM
from clarkia.samplers.exponential import factor
from clarkia.samplers.solver import Staged, Stages, drawn, require


@dataclass(frozen=True)
class PredictorCorrector(Staged):
    """A solver's step, and Langevin steps where it leads.

    Args:
        predictor: The solver, of the Gaussian kind.
        num_corrections: Langevin steps after each of its steps but the last, an evaluation each.
        signal_to_noise: The published r: a correction has the step ``2 (r sigma_s)^2``.

    Raises:
        ValueError: A number of corrections below 1, or an r that is not positive.

    Source: Score-Based Generative Modeling through Stochastic Differential Equations (2021).
    """

    predictor: Staged = field(default_factory=DDPM)
    num_corrections: int = 1
    signal_to_noise: float = 0.16

    def __post_init__(self) -> None:
        _require_positive("num_corrections", self.num_corrections)
        _require_positive("signal_to_noise", self.signal_to_noise)

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Any:
        """The predictor's carry."""
        require(process, Gaussian, "PredictorCorrector")
        return self.predictor.init(x, process, generator)

    def stages(self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None) -> Stages:
        """The predictor's evaluations, then one a correction."""
        outcome, carry = yield from self.predictor.stages(process, x, t, s, carry, generator)
        x_s = drawn(outcome, generator)
        moving = (spread(s, x) > 0) & (spread(s, x) < spread(t, x))
        if bool(moving.any()):
            for _ in range(self.num_corrections):
                x0_hat = yield x_s, s
                x_s = torch.where(moving, _moved(process, x_s, x0_hat, s, 2 * self.signal_to_noise**2, generator), x_s)
        return x_s, carry


@dataclass(frozen=True)
class AnnealedLangevin(Staged):
    """Many Langevin steps at every level of the grid, and the prediction at the last.

    Args:
        num_corrections: Langevin steps a level, an evaluation each.
        step_size: Their step over ``sigma^2``; the published ``epsilon / sigma_L^2`` is ``2e-5 / 0.01^2``.

    Raises:
        ValueError: A number that is not positive.

    Source: Generative Modeling by Estimating Gradients of the Data Distribution (2019).
    """

    num_corrections: int = 100
    step_size: float = 0.2

    def __post_init__(self) -> None:
        _require_positive("num_corrections", self.num_corrections)
        _require_positive("step_size", self.step_size)

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "AnnealedLangevin")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation a Langevin step at t, one more where an element ends at s = 0."""
        moving = spread(s, x) < spread(t, x)
        for _ in range(self.num_corrections):
            x0_hat = yield x, t
            x = torch.where(moving, _moved(process, x, x0_hat, t, self.step_size, generator), x)
        (alpha_t, alpha_s), (sigma_t, sigma_s) = process.scales(x, t, s)
        signal = alpha_t > 0  # where there is none, the state is pure noise
        ratio = np.where(signal, alpha_s, sigma_s) / np.where(signal, alpha_t, np.where(sigma_t > 0, sigma_t, 1.0))
        x_s = torch.where(moving, factor(ratio, x) * x, x)
        clean = moving & (spread(s, x) == 0)
        if bool(clean.any()):
            x_s = torch.where(clean, (yield x, t), x_s)
        return x_s, None


def _moved(process: Gaussian, x: Tensor, x0_hat: Tensor, t: Tensor, step: float, generator: Noise) -> Tensor:
    """One Langevin step at time t, of ``step`` times ``sigma_t^2``."""
    sigma = process.coefficients(t, x)[1]
    noise = randn(x.shape, generator, dtype=x.dtype, device=x.device)
    return x + step * sigma**2 * process.score(x, x0_hat, t) + math.sqrt(2 * step) * sigma * noise


def _require_positive(name: str, value: float) -> None:
    whole = isinstance(value, int) or name != "num_corrections"
    if not (whole and value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: expected a positive {'whole ' * (name == 'num_corrections')}number, found {value}.")
