"""Noise schedules over t in [0, 1]: variance exploding and variance preserving."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from clarkia.schedules.columns import against, like

# --------------------------------------------------------------------------------------------- variance exploding


class _PowerMeanForm:
    """The arithmetic of a power-mean noise scale, whether its curvature is given or learned."""

    sigma_min: float
    sigma_max: float
    rho: float | Tensor

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at ``t``; ``(n,)`` or, with a ``rho`` a column, ``(n, columns)``."""
        rho = like(self.rho, t)
        low, span = self._ends(rho)
        return (low + against(t, rho) * span) ** rho

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        rho = like(self.rho, t)
        low, span = self._ends(rho)
        return rho * span * (low + against(t, rho) * span) ** (rho - 1)

    def t_of_sigma(self, sigma: Tensor) -> Tensor:
        """Time of a noise scale, above 1 beyond ``sigma_max``."""
        rho = like(self.rho, sigma)
        low, span = self._ends(rho)
        return (against(sigma, rho) ** (1 / rho) - low) / span

    def _ends(self, rho: Tensor) -> tuple[Tensor, Tensor]:
        low = self.sigma_min ** (1 / rho)
        return low, self.sigma_max ** (1 / rho) - low


@dataclass(frozen=True, eq=False)
class PowerMean(_PowerMeanForm):
    """Power-mean noise scale ``(min^(1/rho) + t (max^(1/rho) - min^(1/rho)))^rho``, EDM's at ``rho = 7``.

    Args:
        sigma_min: Noise scale towards t = 0 (a process takes t = 0 itself as clean).
        sigma_max: Noise scale at t = 1.
        rho: Curvature, a number or a tensor with one a column.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float | Tensor = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, found {self.sigma_min}, {self.sigma_max}."
            )
        if not bool((torch.as_tensor(self.rho) > 0).all()):
            raise ValueError(f"rho: expected positive numbers, found {self.rho}.")


class LearnedPowerMean(nn.Module, _PowerMeanForm):
    """`PowerMean` with a trained ``rho = softplus(r) + 5`` a column; every ``r`` starts at 7, so ``rho`` at 12.0009.

    Args:
        num_columns: Number of columns.
        sigma_min: Noise scale towards t = 0.
        sigma_max: Noise scale at t = 1.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024).
    """

    def __init__(self, num_columns: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        super().__init__()
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.raw = nn.Parameter(torch.full((num_columns,), 7.0))

    @property
    def rho(self) -> Tensor:  # type: ignore[override]
        """Curvature of each column, above 5."""
        return softplus(self.raw) + 5


# ------------------------------------------------------------------------------------------- variance preserving


@dataclass(frozen=True)
class LinearVP:
    """DDPM's schedule in continuous time: the rate grows linearly from ``beta_min`` to ``beta_max``.

    Source: Score-Based Generative Modeling through Stochastic Differential Equations (2021).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"beta: expected 0 < beta_min <= beta_max, found {self.beta_min}, {self.beta_max}.")

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        return torch.exp(-0.5 * self._total(t))

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return torch.sqrt(-torch.expm1(-self._total(t)))

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""
        return -0.5 * self._rate(t) * self.alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale, infinite at t = 0."""
        return 0.5 * self._rate(t) * self.alpha(t) ** 2 / self.sigma(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``."""
        total = torch.log1p(kappa**2)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total)
        return 2 * total / (self.beta_min + root)

    def _rate(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _total(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))


@dataclass(frozen=True)
class CosineVP:
    """``alpha = cos(pi t / 2)``, which reaches 0 at t = 1.

    Source: Improved Denoising Diffusion Probabilistic Models (2021), without its offset.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale, exactly 0 at t = 1."""
        return torch.sin(0.5 * math.pi * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return torch.sin(0.5 * math.pi * t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""
        return -0.5 * math.pi * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        return 0.5 * math.pi * self.alpha(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``."""
        return torch.atan(kappa) * (2 / math.pi)
