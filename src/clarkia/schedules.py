"""Noise and mask schedules over t in [0, 1], and the grids of times a sampler walks.

A schedule's parameter may be one number or one a column; a time `(n,)` meets a per-column parameter as `(n, columns)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class TimeGrid(Protocol):
    """What the grids need of a Gaussian process."""

    def kappa(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio."""
        ...

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Its inverse."""
        ...


# --------------------------------------------------------------------------------------------- variance exploding


class _PowerMeanForm:
    """The arithmetic of a power-mean noise scale, whether its curvature is given or learned."""

    sigma_min: float
    sigma_max: float
    rho: float | Tensor

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at ``t``; ``(n,)`` or, with a ``rho`` a column, ``(n, columns)``."""
        rho = _like(self.rho, t)
        low, span = self._ends(rho)
        return (low + against(t, rho) * span) ** rho

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""
        rho = _like(self.rho, t)
        low, span = self._ends(rho)
        return rho * span * (low + against(t, rho) * span) ** (rho - 1)

    def t_of_sigma(self, sigma: Tensor) -> Tensor:
        """Time of a noise scale, above 1 beyond ``sigma_max``."""
        rho = _like(self.rho, sigma)
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


# --------------------------------------------------------------------------------------------------------- masks


class _PolynomialMaskForm:
    """The arithmetic of a polynomial mask, whether its exponent is given or learned."""

    k: float | Tensor
    eps_max: float
    eps_min: float

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked; ``(n,)`` or, with a ``k`` a column, ``(n, columns)``."""
        k = _like(self.k, t)
        return 1 - ((1 - self.eps_max - self.eps_min) * against(t, k) ** k + self.eps_min)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        k = _like(self.k, t)
        return -(1 - self.eps_max - self.eps_min) * k * against(t, k) ** (k - 1)

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``."""
        k = _like(self.k, alpha)
        level = (1 - against(alpha, k) - self.eps_min) / (1 - self.eps_max - self.eps_min)
        return level.clamp(min=0) ** (1 / k)


@dataclass(frozen=True, eq=False)
class PolynomialMask(_PolynomialMaskForm):
    """Visible with probability ``1 - ((1 - eps_max - eps_min) t^k + eps_min)``; linear at ``k = 1``.

    Args:
        k: Exponent, a number or a tensor with one a column.
        eps_max: Probability of being visible at t = 1.
        eps_min: Probability of being masked towards t = 0.
    """

    k: float | Tensor = 1.0
    eps_max: float = 0.0
    eps_min: float = 0.0

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.k) > 0).all()):
            raise ValueError(f"k: expected positive numbers, found {self.k}.")
        if min(self.eps_max, self.eps_min) < 0 or self.eps_max + self.eps_min >= 1:
            raise ValueError(f"eps: expected eps_max, eps_min >= 0 with sum < 1, found {self.eps_max}, {self.eps_min}.")


class LearnedPolynomialMask(nn.Module, _PolynomialMaskForm):
    """`PolynomialMask` with a trained ``k = softplus(kappa) + 1`` a column; ``kappa`` starts at -6, ``k`` at 1.00248.

    Args:
        num_columns: Number of columns.
        eps_max: Probability of being visible at t = 1.
        eps_min: Probability of being masked towards t = 0.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024).
    """

    def __init__(self, num_columns: int, eps_max: float = 1e-3, eps_min: float = 1e-5) -> None:
        super().__init__()
        self.eps_max, self.eps_min = eps_max, eps_min
        self.raw = nn.Parameter(torch.full((num_columns,), -6.0))

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """Exponent of each column, above 1."""
        return softplus(self.raw) + 1


@dataclass(frozen=True)
class CosineMask:
    """``alpha = 1 - cos(pi (1 - t) / 2)``, MaskGIT's, which reveals few positions first; ``late`` is its mirror image.

    Args:
        late: Use ``alpha = cos(pi t / 2)`` instead, which reveals most positions first.

    Source: MaskGIT: Masked Generative Image Transformer (2022).
    """

    late: bool = False

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked."""
        return torch.sin(0.5 * math.pi * (1 - t)) if self.late else 1 - torch.sin(0.5 * math.pi * t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        return -0.5 * math.pi * torch.sin(0.5 * math.pi * (t if self.late else 1 - t))

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``."""
        return (2 / math.pi) * (torch.acos(alpha) if self.late else torch.asin(1 - alpha))


# --------------------------------------------------------------------------------------------------------- grids


def uniform(num_steps: int) -> Tensor:
    """``num_steps + 1`` float64 times, evenly spaced from 1 to 0."""
    _check_steps(num_steps)
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def log_snr(
    num_steps: int, process: TimeGrid, *, kappa_min: float | None = None, kappa_max: float | None = None
) -> Tensor:
    """Times evenly spaced in the log signal-to-noise ratio of a Gaussian process, then 0.

    Args:
        num_steps: Number of steps.
        process: A Gaussian process.
        kappa_min: Last ``sigma / alpha`` before 0; by default the process's own limit, or 0.002 where that is 0.
        kappa_max: First one; by default the process's own, or 80 where that is infinite.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.
    """
    high, low = _kappa_range(process, kappa_min, kappa_max)
    return _times(process, torch.exp(_ramp(num_steps, math.log(high), math.log(low))))


def karras(
    num_steps: int,
    process: TimeGrid,
    rho: float = 7.0,
    *,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
) -> Tensor:
    """Times at which ``(sigma / alpha)^(1/rho)`` is evenly spaced, then 0; arguments and result as `log_snr`.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """
    high, low = _kappa_range(process, kappa_min, kappa_max)
    return _times(process, _ramp(num_steps, high ** (1 / rho), low ** (1 / rho)) ** rho)


def check_times(times: Tensor) -> Tensor:
    """The grid as float64, ``(steps + 1,)`` or one a row ``(steps + 1, n)``.

    Raises:
        ValueError: Fewer than two times, a time outside [0, 1], or an increase (or, in a shared grid, a repetition).
    """
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.ndim not in (1, 2) or len(times) < 2:
        raise ValueError(f"times: expected shape (steps + 1,) or (steps + 1, n), found {tuple(times.shape)}.")
    if not bool(((times >= 0) & (times <= 1)).all()):
        raise ValueError(f"times: expected values in [0, 1], found {float(times.min())} to {float(times.max())}.")
    gaps = times[:-1] - times[1:]
    bad = (gaps < 0).flatten(1).any(1) if times.ndim == 2 else gaps <= 0
    if bool(bad.any()):
        raise ValueError(
            f"times: expected a decreasing grid, found an increase or repetition at step {int(bad.int().argmax())}."
        )
    return times


def against(t: Tensor, parameter: Tensor) -> Tensor:
    """A time ``(n,)`` with trailing axes for the axes of a per-column parameter; other times unchanged."""
    return t.reshape(-1, *(1,) * parameter.ndim) if parameter.ndim and t.ndim == 1 else t


# A Gaussian process is clean at t = 0 itself, so a node meant for the least noise sits this far above it.
_LEAST_TIME = 1e-6


def _like(parameter: float | Tensor, t: Tensor) -> Tensor:
    return torch.as_tensor(parameter, device=t.device, dtype=torch.promote_types(t.dtype, torch.float32))


def _kappa_range(process: TimeGrid, low: float | None, high: float | None) -> tuple[float, float]:
    if not hasattr(process, "kappa"):
        raise ValueError(
            f"process: expected a Gaussian process, found {type(process).__name__}; use schedules.uniform."
        )
    with torch.no_grad():
        ends = [float(process.kappa(torch.tensor([t], dtype=torch.float64)).mean()) for t in (1.0, 1e-300)]
    high = high or (ends[0] if ends[0] < 1e9 else 80.0)
    low = low or (ends[1] if ends[1] > 1e-9 else 0.002)
    if not 0 < low < high:
        raise ValueError(f"kappa: expected 0 < kappa_min < kappa_max, found {low} and {high}.")
    return high, low


def _ramp(num_steps: int, first: float, last: float) -> Tensor:
    _check_steps(num_steps)
    return torch.linspace(first, last, num_steps, dtype=torch.float64)


def _times(process: TimeGrid, kappa: Tensor) -> Tensor:
    with torch.no_grad():
        t = process.t_of_kappa(kappa).clamp(_LEAST_TIME, 1.0)
    t = t.flatten(1).mean(1) if t.ndim > 1 else t  # a schedule a column: the mean time
    t[0] = 1.0
    return torch.cat([t, t.new_zeros(1)])


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, found {num_steps}.")
