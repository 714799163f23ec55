"""Sampling embeddings whose tokens keep times of their own: what looks certain is nearly done, the rest is noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel
from clarkia.random import Noise
from clarkia.samplers.solver import Staged, Stages, require

TimePolicy: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the prediction ``(n, L, e)`` and the row's next time ``(n,)`` to the tokens' next times ``(n, L)`` in [0, 1]."""

_LEAST_TIME = 1e-12  # of a token that is not shown: t = 0 is


def together(x0_hat: Tensor, t: Tensor) -> Tensor:
    """The policy of ordinary diffusion: every token at the row's time."""
    return t.unsqueeze(1).expand(x0_hat.shape[:2])


@dataclass(frozen=True)
class ElementTime(Staged):
    """Each step moves the row's time, asks a policy for the tokens' times, and noises the prediction to these afresh.

    The denoiser is called with times of the latent's shape, constant over the numbers of a token.

    Args:
        policy: From the prediction and the row's next time to the tokens' times.
        falling: Keep a token's time from rising again, which in the published sampler it may.
        fresh: Noise the prediction afresh at every step, as published; or keep the noise of the state and step by the
            process's own deterministic kernel, which needs ``falling``.
        self_condition: States are ``(n, L, 2 e)``: the second half is the last prediction, shown to the denoiser, which
            answers in the same shape with its prediction in the first half. `doubled` makes such a denoiser.

    Source: Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes (2025).
    """

    policy: TimePolicy = together
    falling: bool = True
    fresh: bool = True
    self_condition: bool = False

    def __post_init__(self) -> None:
        if not (self.fresh or self.falling):
            raise ValueError("fresh: expected True where times may rise; keeping the noise needs falling times.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Tensor:
        """The tokens' times, all 1."""
        require(process, Gaussian, "ElementTime")
        if x.ndim != 3:
            raise ValueError(f"x: expected states (n, L, e), found shape {tuple(x.shape)}.")
        return torch.ones(x.shape[:2], dtype=torch.float64, device=x.device)

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Tensor, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        shown = (t if t.ndim == x.ndim else t.reshape(-1, 1, 1)) == 0
        now = carry.unsqueeze(-1).masked_fill(shown, 0.0).expand(x.shape)
        prediction = yield x, now
        x0_hat, state = (part.chunk(2, -1)[0] if self.self_condition else part for part in (prediction, x))
        row = s if s.ndim == 1 else s.reshape(len(s), -1).amax(1)
        tau = self.policy(x0_hat, row).to(carry.dtype).clamp(_LEAST_TIME, 1.0)
        tau = torch.where((row > 0).unsqueeze(1), tau, 0.0)
        if self.falling:
            tau = torch.minimum(tau, carry)
        after = tau.unsqueeze(-1).masked_fill(shown[..., : x0_hat.shape[-1]], 0.0).expand(x0_hat.shape)
        kernel = self._kernel(process, state, x0_hat, now[..., : x0_hat.shape[-1]], after)
        if self.self_condition:
            kernel = GaussianKernel(
                torch.cat([kernel.mean, x0_hat], -1), torch.cat([kernel.std, torch.zeros_like(kernel.std)], -1)
            )
        return kernel, tau

    def _kernel(self, process: Gaussian, z: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> GaussianKernel:
        if not self.fresh:
            kernel = process.kernel(z, x0_hat, t, s, eta=0.0)
            return GaussianKernel(kernel.mean, kernel.std.expand(z.shape))
        alpha, sigma = process.coefficients(s, x0_hat)
        held = t == 0
        mean = torch.where(held, z, alpha * x0_hat)
        return GaussianKernel(mean, torch.where(held, 0.0, sigma).to(mean.dtype).expand(mean.shape))


def doubled(denoiser: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A denoiser for states with their last prediction beside them, from one that reads both and answers one half.

    Args:
        denoiser: ``denoiser(inputs (n, L, 2 e), t (n, L), condition=None) -> x0_hat (n, L, e)``, as trained with
            self-conditioning.
    """

    def denoise(x_t: Tensor, t: Tensor, condition: object = None) -> Tensor:
        time = t if t.ndim < 3 else t[..., 0]
        x0_hat = denoiser(x_t, time) if condition is None else denoiser(x_t, time, condition)
        return torch.cat([x0_hat, x_t.chunk(2, -1)[1]], -1)

    return denoise
