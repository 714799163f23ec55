"""The two classical one-node samplers: DDPM's ancestral step and DDIM's family around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel, spread
from clarkia.random import Noise
from clarkia.samplers.solver import Staged, Stages, require, settled


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
        start, end = spread(t, x), spread(s, x)
        sigma_t, sigma_s, alpha_s = process.sigma(start), process.sigma(end), process.alpha(end)
        std = self.eta * process.step_weights(start, end, eta=1.0)[2]
        moving = end < start
        # Of x_t what is left is its noise: epsilon = (x_t - alpha_t x0_hat) / sigma_t.
        keep = torch.where(moving, torch.sqrt(sigma_s**2 - std**2) / torch.where(moving, sigma_t, 1.0), 1.0)
        weight = torch.where(moving, alpha_s - keep * process.alpha(start), 0.0)
        mean = torch.addcmul(keep.to(x.dtype) * x, weight.to(x.dtype), x0_hat)
        return settled(GaussianKernel(mean, std.to(x.dtype)), self.eta), None


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
        kernel = process.kernel(x, x0_hat, t, s, eta=1.0)
        if self.variance == "small":
            return kernel, None
        start, end = spread(t, x), spread(s, x)
        shrink = torch.where(end < start, process.alpha(start) / process.alpha(end), 1.0)
        forward = (process.sigma(start) ** 2 - (shrink * process.sigma(end)) ** 2).clamp(min=0).sqrt()
        return GaussianKernel(kernel.mean, torch.where(process.sigma(end) > 0, forward, 0.0).to(x.dtype)), None
