"""Gaussian corruption ``x_t = alpha(t) x_0 + sigma(t) eps`` and all arithmetic on its posterior mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes.kernels import GaussianKernel
from clarkia.processes.times import check_time, spread
from clarkia.random import Noise, randn
from clarkia.schedules import CosineVP, LinearVP, PowerMean


class Gaussian(ABC):
    """A Gaussian process, given by five functions of time; t = 0 is clean (alpha 1, sigma 0), t = 1 the prior.

    Times are ``(n,)`` or the shape of the block. Where a schedule has one parameter a column, ``alpha`` and ``sigma``
    of a time ``(n,)`` are ``(n, columns)``. Coefficients are computed in the time's dtype, applied in the state's.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale, exactly 0 at t = 0."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""

    @abstractmethod
    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``; above 1 where the process never gets there."""

    def kappa(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio ``sigma / alpha``, infinite where alpha is 0."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """``log(alpha^2 / sigma^2)``: infinite at t = 0, minus infinity where alpha is 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def coefficients(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, broadcastable against ``x`` and in its dtype."""
        t = spread(t, x)
        return self.alpha(t).to(x.dtype), self.sigma(t).to(x.dtype)

    def corrupt(
        self, x0: Float[Tensor, "n ..."], t: Tensor | float, *, generator: Noise = None
    ) -> Float[Tensor, "n ..."]:
        """Draw ``x_t`` given ``x_0``; elements at t = 0 come back as they are.

        Raises:
            ValueError: A time outside [0, 1] or of another shape than ``(n,)`` or that of ``x0``.
        """
        check_time(t)
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * randn(x0.shape, generator, dtype=x0.dtype, device=x0.device)

    def prior(
        self,
        num_samples: int,
        shape: Sequence[int],
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "n ..."]:
        """Draw ``sigma(1) eps`` of shape ``(num_samples, *shape)``."""
        noise = randn((num_samples, *shape), generator, dtype=dtype, device=device)
        with torch.no_grad():
            one = torch.ones(1, dtype=torch.float64, device=noise.device)
            return self.sigma(spread(one, noise[:1])).to(noise.dtype) * noise

    # ------------------------------------------------------------------------------- what a prediction means

    def epsilon(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The noise ``(x_t - alpha x0_hat) / sigma``; 0 at t = 0, where there is none."""
        alpha, sigma = self.coefficients(t, x_t)
        return torch.where(sigma > 0, (x_t - alpha * x0_hat) / torch.where(sigma > 0, sigma, 1.0), 0.0)

    def score(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The score ``(alpha x0_hat - x_t) / sigma^2`` of the marginal; 0 at t = 0, where there is none."""
        alpha, sigma = self.coefficients(t, x_t)
        return torch.where(sigma > 0, (alpha * x0_hat - x_t) / torch.where(sigma > 0, sigma**2, 1.0), 0.0)

    def velocity(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The expected ``alpha' x_0 + sigma' eps``; 0 at t = 0."""
        slope, growth = self._derivatives(t, x_t)
        live = spread(t, x_t) > 0
        moving = slope * x0_hat + torch.where(live, growth, 0.0) * self.epsilon(x_t, x0_hat, t)
        return torch.where(live, moving, 0.0)

    def x0_from_epsilon(self, x_t: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a noise prediction means.

        Raises:
            ValueError: Somewhere alpha is 0, where the noise says nothing about the data.
        """
        alpha, sigma = self.coefficients(t, x_t)
        _check_signal(alpha, "epsilon")
        return (x_t - sigma * epsilon) / alpha

    def x0_from_score(self, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a score means (Tweedie's formula); raises where alpha is 0."""
        alpha, sigma = self.coefficients(t, x_t)
        _check_signal(alpha, "score")
        return (x_t + sigma**2 * score) / alpha

    def x0_from_velocity(self, x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a velocity means; ``x_t`` itself at t = 0."""
        alpha, sigma = self.coefficients(t, x_t)
        slope, growth = self._derivatives(t, x_t)
        live = spread(t, x_t) > 0
        growth = torch.where(live, growth, 1.0)
        mean = (growth * x_t - sigma * velocity) / torch.where(live, alpha * growth - sigma * slope, 1.0)
        return torch.where(live, mean, x_t)

    # ------------------------------------------------------------------------------------------- transitions

    def kernel(
        self, x_t: Tensor, prediction: Tensor, t: Tensor | float, s: Tensor | float, *, eta: float = 1.0
    ) -> GaussianKernel:
        """The step from t to s <= t that takes ``prediction`` for the clean data over the whole step.

        Args:
            x_t: State at time t, ``(n, ...)``.
            prediction: ``x0_hat``, of the same shape.
            t: Time of ``x_t``, ``(n,)`` or element-wise.
            s: Time to go to.
            eta: Stochasticity: 0 the probability-flow step (DDIM), 1 the posterior ``q(x_s | x_t, x0_hat)`` (DDPM).

        Returns:
            The kernel. Elements with s = t, in particular observed ones at t = 0, stay exactly as they are.

        Source: Denoising Diffusion Implicit Models (2021); the family of reverse SDEs of DPM-Solver++ (2022).
        """
        decay, weight, std = self.step_weights(spread(t, x_t), spread(s, x_t, "s"), eta=eta)
        return GaussianKernel(decay.to(x_t.dtype) * x_t + weight.to(x_t.dtype) * prediction, std.to(x_t.dtype))

    def step_weights(self, t: Tensor, s: Tensor, *, eta: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of ``x_t`` and of the prediction, and the noise, of a step from t to s with a constant prediction."""
        alpha_t, sigma_t, alpha_s, sigma_s = self.alpha(t), self.sigma(t), self.alpha(s), self.sigma(s)
        moving = (sigma_t > 0) & (s < t)
        shrink = torch.where(moving, sigma_s / torch.where(moving, sigma_t, 1.0), 1.0)
        # rho = kappa_s / kappa_t in [0, 1]; finite also where alpha_t = 0.
        rho = torch.where(moving, shrink * alpha_t / torch.where(moving, alpha_s, 1.0), 1.0)
        weight = alpha_s * (1 - rho ** (1 + eta))
        return shrink * rho**eta, weight, sigma_s * torch.sqrt(1 - rho ** (2 * eta))

    def _derivatives(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        t = spread(t, x)
        return self.d_alpha(t).to(x.dtype), self.d_sigma(t).to(x.dtype)


class VPSchedule(Protocol):
    """Signal and noise scale with ``alpha^2 + sigma^2 = 1``, their derivatives, and the inverse of their ratio."""

    def alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def sigma(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def d_alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def d_sigma(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def t_of_kappa(self, kappa: Tensor) -> Tensor: ...  # noqa: D102


class VESchedule(Protocol):
    """A growing noise scale, its derivative and its inverse."""

    def sigma(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def d_sigma(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def t_of_sigma(self, sigma: Tensor) -> Tensor: ...  # noqa: D102


class VariancePreserving(Gaussian):
    """``alpha^2 + sigma^2 = 1``.

    Args:
        schedule: ``"linear"`` (DDPM's), ``"cosine"``, or any object with the methods of `VPSchedule`.
    """

    def __init__(self, schedule: str | VPSchedule = "linear") -> None:
        named = {"linear": LinearVP, "cosine": CosineVP}
        if isinstance(schedule, str) and schedule not in named:
            raise ValueError(f"schedule: expected one of {sorted(named)}, found {schedule!r}.")
        self.schedule: VPSchedule = named[schedule]() if isinstance(schedule, str) else schedule

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        return self.schedule.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return self.schedule.sigma(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""
        return self.schedule.d_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        return self.schedule.d_sigma(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``."""
        return self.schedule.t_of_kappa(kappa)


class VarianceExploding(Gaussian):
    """``alpha = 1`` and a growing noise scale; the defaults are EDM's.

    Args:
        sigma_min: Noise scale towards t = 0; at t = 0 itself it is 0.
        sigma_max: Noise scale of the prior.
        rho: Curvature of the power-mean schedule, a number or a tensor with one a column.
        schedule: Any object with the methods of `VESchedule`, instead of the three above.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float | Tensor = 7.0,
        *,
        schedule: VESchedule | None = None,
    ) -> None:
        self.schedule: VESchedule = PowerMean(sigma_min, sigma_max, rho) if schedule is None else schedule

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale, 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale; it jumps from ``sigma_min`` to 0 at t = 0."""
        sigma = self.schedule.sigma(t)
        return torch.where(t.reshape((*t.shape, *(1,) * (sigma.ndim - t.ndim))) > 0, sigma, 0.0)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale, 0."""
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        return self.schedule.d_sigma(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which the noise scale is ``kappa``."""
        return self.schedule.t_of_sigma(kappa)


class RectifiedFlow(Gaussian):
    """The straight path ``alpha = 1 - t``, ``sigma = t``.

    Source: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (2022).
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale, -1."""
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale, 1."""
        return torch.ones_like(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``."""
        return 1 / (1 + 1 / kappa)


def _check_signal(alpha: Tensor, name: str) -> None:
    if not bool((alpha > 0).all()):
        raise ValueError(f"{name}: expected times with alpha > 0, found alpha = 0, where it does not determine x0.")
