"""The Gaussian processes by name, and any other by its two functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from clarkia.processes.gaussian import Gaussian
from clarkia.schedules import CosineVP, LinearVP, PowerMean


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


class SubVariancePreserving(Gaussian):
    """DDPM's signal scale with less noise, ``sigma = 1 - alpha^2``, never more than the variance-preserving one's.

    Args:
        beta_min: Rate at t = 0.
        beta_max: Rate at t = 1.

    Source: Score-Based Generative Modeling through Stochastic Differential Equations (2021).
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self.schedule = LinearVP(beta_min, beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        return self.schedule.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return self.schedule.sigma(t) ** 2

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""
        return self.schedule.d_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        return -2 * self.schedule.alpha(t) * self.schedule.d_alpha(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``, where ``alpha`` solves ``alpha^2 + kappa alpha = 1``."""
        alpha = 2 / (kappa + torch.sqrt(kappa**2 + 4))
        # The schedule's own inverse wants sqrt(1 - alpha^2) / alpha; 1 - alpha^2 is kappa alpha.
        return self.schedule.t_of_kappa(torch.sqrt(kappa / alpha))


class GaussianPath(Gaussian):
    """A Gaussian process from its own two functions of time.

    Args:
        alpha: Signal scale as a differentiable function of a tensor of times: 1 at t = 0, never negative.
        sigma: Noise scale, 0 at t = 0 and positive after; ``sigma / alpha`` must increase.

    Raises:
        ValueError: The functions break one of these promises on a grid of a thousand times.
    """

    def __init__(self, alpha: Callable[[Tensor], Tensor], sigma: Callable[[Tensor], Tensor]) -> None:
        self._alpha, self._sigma = alpha, sigma
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
        signal, noise = alpha(grid), sigma(grid)
        for name, values in (("alpha", signal), ("sigma", noise)):
            if values.shape != grid.shape or not bool(values.isfinite().all()) or bool((values < 0).any()):
                raise ValueError(f"{name}: expected finite non-negative values of the shape of t, found {values}.")
        if abs(float(signal[0]) - 1) > 1e-6 or abs(float(noise[0])) > 1e-6:
            raise ValueError(
                f"alpha, sigma: expected 1 and 0 at t = 0, found {float(signal[0]):g} and {float(noise[0]):g}."
            )
        falling = (noise / signal).diff() <= 0
        if bool(falling.any()):
            raise ValueError(
                "alpha, sigma: expected sigma / alpha to increase, "
                f"found a fall at t = {float(grid[int(falling.int().argmax())]):g}."
            )

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        return self._alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale, exactly 0 at t = 0."""
        return torch.where(t > 0, self._sigma(t), 0.0)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""
        return _derivative(self._alpha, t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        return _derivative(self._sigma, t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``, by bisection; 1 above the process's own limit."""
        low, high = torch.zeros_like(kappa, dtype=torch.float64), torch.ones_like(kappa, dtype=torch.float64)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = self._sigma(middle) > kappa * self._alpha(middle)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (0.5 * (low + high)).to(kappa.dtype)


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """The derivative of a function of each time."""
    with torch.enable_grad():
        t = t.detach().clone().requires_grad_()
        return torch.autograd.grad(function(t).sum(), t)[0]
