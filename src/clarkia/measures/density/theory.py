"""What a Gaussian kernel density of many normal rows in many dimensions does, bandwidth by bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class KernelRegimes:
    """Bandwidths that part the regimes of a kernel density of ``exp(alpha d)`` normal rows as d grows.

    Attributes:
        condensation: ``h_G``. Below it a handful of rows makes up the density at a fresh point.
        normal: ``h_CLT = sqrt(2) h_G``. Above it the density fluctuates like a normal number; between the two its
            fluctuations have heavy tails, of index ``(h / h_G)^2``.
        optimal: Where the divergence from the law to the density is least; always below ``h_G``, where it is the
            distance to the nearest row, a dimension.
        divergence: That least divergence, nats a dimension.
    """

    condensation: float
    normal: float
    optimal: float
    divergence: float


def kernel_regimes(alpha: float, spectrum: Any = 1.0) -> KernelRegimes:
    """Regimes of the Gaussian kernel density of ``n = exp(alpha d)`` normal rows, in the limit of large d.

    They hold for fresh points that are typical of the law, not for outliers. The level at which a *noised row* is
    given back is another: see `gaussian_collapse`.

    Args:
        alpha: ``log(n) / d``, positive.
        spectrum: Variances of the data along their principal axes, one or several, not negative.

    Raises:
        ValueError: An alpha that is not positive, or a spectrum without a positive variance.

    Source: Kernel Density Estimators in Large Dimensions (2024).
    """
    alpha, spectrum = _check(alpha, spectrum)
    u = _condensation(alpha, spectrum)
    energy = float(_slope(u, spectrum))  # half the squared distance to the nearest row, a dimension
    optimal = math.sqrt(2 * energy)
    return KernelRegimes(
        condensation=u**-0.5,
        normal=math.sqrt(2) * u**-0.5,
        optimal=optimal,
        divergence=alpha + math.log(optimal) - 0.5 * float(spectrum.log().mean()),
    )


def kernel_divergence(bandwidth: float, alpha: float, spectrum: Any = 1.0) -> float:
    """Kullback-Leibler divergence from the law to its kernel density, nats a dimension; arguments as `kernel_regimes`.

    Args:
        bandwidth: ``h``, positive.
        alpha: ``log(n) / d``.
        spectrum: Variances of the data.

    Source: Kernel Density Estimators in Large Dimensions (2024).
    """
    alpha, spectrum = _check(alpha, spectrum)
    h = _check_bandwidth(bandwidth)
    u, critical = h**-2, _condensation(alpha, spectrum)
    # Below the condensation only the nearest rows are left.
    loss = -_free_energy(u, spectrum) if u <= critical else alpha + _slope(critical, spectrum) * u
    return float(loss + math.log(h) - 0.5 - 0.5 * spectrum.log().mean())


def contributing_entropy(bandwidth: float, alpha: float, spectrum: Any = 1.0) -> float:
    """Logarithm of the number of rows that make up the density at a typical point, a dimension; 0 at ``h_G``.

    Below ``h_G`` the formula is negative: no row is expected where the integral would want them.

    Args:
        bandwidth: ``h``, positive.
        alpha: ``log(n) / d``; what is left as h grows.
        spectrum: Variances of the data.

    Source: Kernel Density Estimators in Large Dimensions (2024).
    """
    alpha, spectrum = _check(alpha, spectrum)
    return alpha - float(_rate(_check_bandwidth(bandwidth) ** -2, spectrum))


def _free_energy(u: float, s: Tensor) -> Tensor:
    """``phi(u) = lim log E exp(-u |x - y|^2 / 2) / d`` at a typical x."""
    return -0.5 * (torch.log1p(u * s) + u * s / (1 + u * s)).mean()


def _slope(u: float, s: Tensor) -> Tensor:
    """``-phi'(u)``: half the squared distance of the rows that contribute, a dimension."""
    return 0.5 * (s / (1 + u * s) + s / (1 + u * s) ** 2).mean()


def _rate(u: float, s: Tensor) -> Tensor:
    """``I(u) = u phi'(u) - phi(u) = mean(log(1 + us) / 2 - us / 2 (1 + us)^2)``: what finding such rows costs."""
    return (0.5 * torch.log1p(u * s) - 0.5 * u * s / (1 + u * s) ** 2).mean()


def _condensation(alpha: float, s: Tensor) -> float:
    """The u at which ``I(u) = alpha``, by bisection of its logarithm; I grows from 0 without bound."""
    scale = float(s.max())
    low, high = -60.0, 60.0
    while float(_rate(math.exp(high) / scale, s)) < alpha:
        high *= 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if float(_rate(math.exp(middle) / scale, s)) > alpha else (middle, high)
    return math.exp(0.5 * (low + high)) / scale


def _check(alpha: Any, spectrum: Any) -> tuple[float, Tensor]:
    alpha = float(alpha)
    if not 0 < alpha < 100:
        raise ValueError(f"alpha: expected a positive number of log(rows) a dimension, at most 100, found {alpha}.")
    s = torch.as_tensor(spectrum, dtype=torch.float64).reshape(-1)
    if not s.numel() or not bool((s >= 0).all() & s.isfinite().all()) or not bool((s > 0).any()):
        raise ValueError(f"spectrum: expected non-negative variances, not all 0, found {s.tolist()}.")
    return alpha, s


def _check_bandwidth(bandwidth: Any) -> float:
    bandwidth = float(bandwidth)
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth: expected a positive number, found {bandwidth}.")
    return bandwidth
