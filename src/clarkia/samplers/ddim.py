"""The two classical one-node samplers: DDPM's ancestral step and DDIM's family around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel
from clarkia.random import Noise
from clarkia.samplers.exponential import exponential_step, factor, lean, plus, width
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True)
class DDIM(Staged):
    """The prediction is taken for constant over the step, the noise partly redrawn.

    ``x_s = alpha_s x0_hat + sqrt(sigma_s^2 - std^2) epsilon + std z`` with ``std`` the share ``eta`` of the
    posterior's. At 0 this is `Euler`, at 1 `DDPM`. Between them it is another family than the reverse diffusions of
    ``DPMSolverPP(order=1, stochasticity=...)``; in variance-exploding units it is the "Euler ancestral" step.

    Args:
        eta: Share of the posterior's noise, from 0 to 1.

    Source: Denoising Diffusion Implicit Models (2021).
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 to 1, found {self.eta}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "DDIM")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        x0_hat = yield x, t
        if self.eta == 0:
            return exponential_step(process, x, t, s, ((x0_hat, t),)).mean, None
        (alpha_t, alpha_s), (sigma_t, sigma_s) = process.scales(x, t, s)
        moving = alpha_t * sigma_s < alpha_s * sigma_t
        rho = np.where(moving, alpha_t * sigma_s, 1.0) / np.where(moving, alpha_s * sigma_t, 1.0)
        std = self.eta * sigma_s * np.sqrt(1 - rho**2)
        # Of x_t what is left is its noise: epsilon = (x_t - alpha_t x0_hat) / sigma_t.
        keep = np.where(moving, np.sqrt(sigma_s**2 - std**2) / np.where(moving, sigma_t, 1.0), 1.0)
        weight = np.where(moving, alpha_s - keep * alpha_t, 0.0)
        mean = plus(factor(lean(keep), x) * x, lean(weight), x0_hat)
        return GaussianKernel(mean, width(lean(std), x)), None


@dataclass(frozen=True)
class DDPM(Staged):
    """The ancestral step: the posterior ``q(x_s | x_t, x_0)`` at the prediction, no noise in the step to s = 0.

    Args:
        variance: ``"small"``, the posterior's, right for data at one point; or ``"large"``, the forward step's
            ``sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2``, right for data of unit variance.

    Source: Denoising Diffusion Probabilistic Models (2020).
    """

    variance: Literal["small", "large"] = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f"variance: expected 'small' or 'large', found {self.variance!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "DDPM")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        x0_hat = yield x, t
        kernel = exponential_step(process, x, t, s, ((x0_hat, t),), 1.0)
        if self.variance == "small":
            return kernel, None
        (alpha_t, alpha_s), (sigma_t, sigma_s) = process.scales(x, t, s)
        moving = alpha_t * sigma_s < alpha_s * sigma_t
        forward = sigma_t**2 - (np.where(moving, alpha_t / alpha_s, 1.0) * sigma_s) ** 2
        std = np.where(moving & (sigma_s > 0), np.sqrt(forward.clip(min=0)), 0.0)
        return GaussianKernel(kernel.mean, width(lean(std), x)), None
