"""Training-free guidance: a classifier or energy of clean data steers any Gaussian process, at four strengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel, spread
from clarkia.random import Noise, randn
from clarkia.samplers.ddim import DDIM
from clarkia.samplers.renoise import renoised
from clarkia.samplers.solver import Evaluate, drawn, require, settled

PRESETS = MappingProxyType(
    {
        "mpgd": {"rho": 0.0, "sigma_bar": 0.0, "num_iterations": 1, "num_recurrences": 1},
        "lgd": {"mu": 0.0, "sigma_bar": 0.1, "num_draws": 4, "num_recurrences": 1},
        "freedom": {"mu": 0.0, "sigma_bar": 0.0, "num_recurrences": 2},
        "dps": {"mu": 0.0, "sigma_bar": 0.0, "num_recurrences": 1, "root": True},
        "ugd": {"sigma_bar": 0.0, "num_recurrences": 2},
        "tfg-cifar10-labels": {"rho": 1.0, "mu": 0.25, "sigma_bar": 0.001},
        "tfg-super-resolution": {"rho": 4.0, "mu": 2.0, "sigma_bar": 0.01},
    }
)
"""What each published method sets; the rest, above all its strength, is the user's: ``TFG(log_f, **PRESETS["mpgd"])``.

Manifold-preserving (MPGD), loss-guided (LGD), training-free energy-guided (FreeDoM), posterior (DPS) and universal
(UGD) guidance, and two tuned rows, of 50 steps (CIFAR-10) and 100 (super-resolution).
"""


@dataclass(frozen=True, eq=False)
class TFG:
    """The DDIM step pushed twice towards a high energy of clean data, repeated in place.

    With ``LF(x0) = log mean_m f(x0 + e_m)`` over draws of small noise, the same throughout a step:

        x0      = D(x_t)
        delta   = rho_t  grad_{x_t} LF(D(x_t))                  variance guidance, through the denoiser
        x0'     = x0 + mu_t grad LF(x0') + ...                  mean guidance, num_iterations times
        x_s     = DDIM(x_t, x0) + delta / a + alpha_s (x0' - x0),    a = alpha_t / alpha_s

    and before each recurrence noise takes ``x_s`` back to t. Strengths mean the same for every Gaussian process: they
    are those of the variance-preserving one at the same signal-to-noise ratio. Where alpha is 0 the gradient through
    the denoiser vanishes and only the mean is guided.

    Args:
        log_f: ``log_f(x_0) -> (n,)``, differentiable.
        rho: Strength of variance guidance.
        mu: Strength of mean guidance.
        sigma_bar: Deviation of the smoothing noise, times ``sigma_t`` of the variance-preserving process.
        num_iterations: Steps of mean guidance.
        num_recurrences: How often each step is made.
        num_draws: Smoothing draws.
        schedule: How both strengths vary, in proportion to ``a^2`` (``"increase"``, towards the data), ``1 - a^2``
            (``"decrease"``) or not at all (``"constant"``), a of the variance-preserving process.
        root: Take ``-sqrt(-log f)`` for ``log f``: of a squared residual the residual itself, as posterior sampling
            does.
        eta: Stochasticity of the step, as in `DDIM`.
        times: The grid the run will walk, ``(steps + 1,)``, over which the strengths then have the means rho and mu,
            as published; None leaves them as they are.

    Raises:
        ValueError: Negative strengths, counts below 1 (0 for iterations), an unknown schedule.

    Source: TFG: Unified Training-Free Guidance for Diffusion Models (2024).
    """

    log_f: Callable[[Tensor], Float[Tensor, " n"]]
    rho: float = 0.25
    mu: float = 0.25
    sigma_bar: float = 0.0
    num_iterations: int = 4
    num_recurrences: int = 1
    num_draws: int = 1
    schedule: Literal["increase", "decrease", "constant"] = "increase"
    root: bool = False
    eta: float = 1.0
    times: Tensor | None = None

    def __post_init__(self) -> None:
        counts = (("num_recurrences", 1), ("num_draws", 1), ("num_iterations", 0))
        for name, least in (*counts, ("rho", 0), ("mu", 0), ("sigma_bar", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}.")
        if self.schedule not in ("increase", "decrease", "constant"):
            raise ValueError(f"schedule: expected 'increase', 'decrease' or 'constant', found {self.schedule!r}.")
        DDIM(self.eta)  # says what is wrong with an eta

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "TFG")

    def step(
        self, denoise: Evaluate, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[Tensor, Any]:
        """The state at s."""
        kernel, carry = self.kernel(denoise, process, x, t, s, carry, generator)
        return drawn(settled(kernel, self.eta), generator), carry

    def kernel(
        self, denoise: Evaluate, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[GaussianKernel, Any]:
        """The law of the last recurrence's step; those before it are drawn."""
        kernel = self._pushed(denoise, process, x, t, s, generator)
        for _ in range(self.num_recurrences - 1):
            back = renoised(process, kernel.sample(generator), s, t, generator)
            kernel = self._pushed(denoise, process, back, t, s, generator)  # type: ignore[arg-type]
        return kernel, carry

    def _pushed(
        self, denoise: Evaluate, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, generator: Noise
    ) -> GaussianKernel:
        (alpha_t, sigma_t), (alpha_s, _) = (process.coefficients(time, x) for time in (t, s))
        moving = (spread(s, x) < spread(t, x)) & (sigma_t > 0)
        size = alpha_t**2 + sigma_t**2  # 1 in a variance-preserving process
        share = self._share(process, spread(t, x), spread(s, x)).to(x.dtype)
        log_f = self._smoothed(x, self.sigma_bar * sigma_t / size.sqrt(), generator)
        x0_hat, slope = self._seen(denoise, log_f, x, t)
        better = x0_hat
        for _ in range(self.num_iterations if self.mu > 0 else 0):
            better = better + self.mu * share * _slope(log_f, better)
        a = torch.where(alpha_t > 0, alpha_t, 1.0) / alpha_s
        delta = torch.where(alpha_t > 0, self.rho * share * size / a, 0.0) * slope
        law, _ = DDIM(self.eta).kernel(lambda *_: x0_hat, process, x, t, s, None)
        assert isinstance(law, GaussianKernel)
        push = delta + alpha_s * (better - x0_hat)
        return GaussianKernel(law.mean + torch.where(moving, push, 0.0), law.std)

    def _seen(
        self, denoise: Evaluate, log_f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and the gradient of its energy with respect to the noisy state."""
        if self.rho == 0:
            return denoise(x, t), torch.zeros_like(x)
        with torch.enable_grad():
            state = x.detach().requires_grad_()
            x0_hat = denoise(state, t)
            value = log_f(x0_hat).sum()
            if not value.requires_grad:
                raise ValueError(
                    "denoiser, log_f: expected functions that torch can differentiate, found one that it cannot."
                )
            (slope,) = torch.autograd.grad(value, state)
        return x0_hat.detach(), slope

    def _smoothed(self, x: Tensor, std: Tensor, generator: Noise) -> Callable[[Tensor], Float[Tensor, " n"]]:
        """``LF``, with the noise of one step."""
        if self.sigma_bar == 0:
            return self._energy
        noise = randn((len(x), self.num_draws, *x.shape[1:]), generator, dtype=x.dtype, device=x.device)
        noise = std.unsqueeze(1) * noise

        def log_mean(x0: Tensor) -> Tensor:
            values = self._energy((x0.unsqueeze(1) + noise).flatten(0, 1)).view(len(x0), -1)
            return values.logsumexp(1) - math.log(self.num_draws)

        return log_mean

    def _energy(self, x0: Tensor) -> Float[Tensor, " n"]:
        value = self.log_f(x0)
        if value.shape != (len(x0),):
            raise ValueError(f"log_f: expected one number a row, shape ({len(x0)},), found {tuple(value.shape)}.")
        return -(-value).sqrt() if self.root else value

    def _share(self, process: Gaussian, t: Tensor, s: Tensor) -> Tensor:
        """The schedule at one step, over its mean on the grid where that is known."""
        share = self._raw(process, t, s)
        if self.times is None or self.schedule == "constant":
            return share
        times = self.times.to(t.device, torch.float64)
        return share / self._raw(process, times[:-1], times[1:]).mean(0)

    def _raw(self, process: Gaussian, t: Tensor, s: Tensor) -> Tensor:
        signal_t, signal_s = (1 / (1 + process.kappa(time) ** 2) for time in (t, s))  # alpha^2 where variance is kept
        kept = signal_t / signal_s
        shares = {"increase": kept, "decrease": 1 - kept, "constant": torch.ones_like(kept)}
        return shares[self.schedule]


def _slope(log_f: Callable[[Tensor], Tensor], x0: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x0.detach().requires_grad_()
        return torch.autograd.grad(log_f(leaf).sum(), leaf)[0]
