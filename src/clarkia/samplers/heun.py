"""Heun's method with EDM's churn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.processes.times import unspread
from clarkia.random import Noise, randn
from clarkia.samplers.exponential import Array, exponential_step, plus
from clarkia.samplers.solver import Staged, Stages, require

MAX_CHURN = math.sqrt(2) - 1


@dataclass(frozen=True)
class Heun(Staged):
    """Second order with two evaluations a step (one in the last), and optional fresh noise before each step.

    Works in ``y = x / alpha`` over ``kappa = sigma / alpha``, element by element, so every row and column may have
    its own noise level. The first step from alpha = 0, where kappa is infinite, is Euler's.

    Args:
        churn: Total of the relative noise increases over a run: a step raises kappa by ``gamma = min(churn (t - s),
            sqrt(2) - 1)``, which on a grid uniform in t is the published ``S_churn / N``. A step that would leave [0,
            1] is not churned.
        churn_range: Interval of kappa in which to churn.
        churn_noise: Scale of the added noise (``S_noise``).

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    churn: float = 0.0
    churn_range: tuple[float, float] = (0.0, math.inf)
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        if self.churn < 0 or self.churn_noise < 0:
            raise ValueError(f"churn: expected non-negative numbers, found {self.churn}, noise {self.churn_noise}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "Heun")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """Churn, Euler to s, and a correction from the prediction there."""
        if self.churn > 0:
            x, t = self._churned(process, x, t, s, generator)
        x0_hat = yield x, t
        x_s = exponential_step(process, x, t, s, ((x0_hat, t),)).mean
        if not bool((s > 0).any()):
            return x_s, None
        x0_hat_s = yield x_s, s
        return plus(x_s, _correction(process, x, t, s), x0_hat_s - x0_hat), None

    def _churned(self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, generator: Noise) -> tuple[Tensor, Tensor]:
        start, end = spread(t, x), spread(s, x)
        kappa = process.kappa(start)
        inside = kappa.isfinite() & (kappa >= self.churn_range[0]) & (kappa <= self.churn_range[1])
        gamma = torch.where(inside, (self.churn * (start - end)).clamp(max=MAX_CHURN), 0.0)
        raised = process.t_of_kappa(kappa * (1 + gamma))
        churned = (gamma > 0) & (raised <= 1)
        t_hat = torch.where(churned, raised, start)
        scale = torch.where(churned, process.alpha(t_hat) / process.alpha(start), 1.0)
        extra = torch.where(churned, process.sigma(t_hat) ** 2 - (scale * process.sigma(start)) ** 2, 0.0)
        std = self.churn_noise * extra.clamp(min=0).sqrt()
        x = scale.to(x.dtype) * x + std.to(x.dtype) * randn(x.shape, generator, dtype=x.dtype, device=x.device)
        return x, unspread(t_hat, x)


def _correction(process: Gaussian, x: Tensor, t: Tensor, s: Tensor) -> float | Array:
    """Weight of ``x0_hat(s) - x0_hat(t)``: ``alpha_s (kappa_t / kappa_s - 1) / 2``, half the change of the slope."""
    known = process.shared_scales(t, s)
    (alpha_t, alpha_s), (sigma_t, sigma_s) = process.scales(x, t, s) if known is None else known
    low, high = alpha_t * sigma_s, alpha_s * sigma_t
    if known is not None:
        return 0.5 * alpha_s * (high / low - 1) if 0 < low < high else 0.0
    live = (low > 0) & (low < high)
    return np.where(live, 0.5 * alpha_s * (high / np.where(live, low, 1.0) - 1), 0.0)
