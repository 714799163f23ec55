"""Radial kernels by name, each a density on d dimensions that integrates to one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Profile:
    """A radial kernel of bandwidth 1.

    Attributes:
        log_shape: Logarithm of the kernel at squared radii, up to its constant; minus infinity outside its support.
        log_mass: Logarithm of the integral of that shape over d dimensions.
        variance: Variance of one coordinate on d dimensions, or 1 where there is none.
    """

    log_shape: Callable[[Tensor, int], Tensor]
    log_mass: Callable[[int], float]
    variance: Callable[[int], float]

    def log_kernel(self, squared: Tensor, bandwidth: Tensor | float, d: int) -> Tensor:
        """Log-density of the kernel at squared distances."""
        bandwidth = torch.as_tensor(bandwidth, dtype=torch.float64, device=squared.device)
        return self.log_shape(squared / bandwidth.square(), d) - self.log_mass(d) - d * bandwidth.log()


def _log_ball(d: int) -> float:
    """Log-volume of the unit ball."""
    return 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)


def _log(values: Tensor) -> Tensor:
    """Logarithm, minus infinity with derivative 0 where not positive."""
    return torch.where(values > 0, torch.where(values > 0, values, 1.0).log(), -torch.inf)


def _root(squared: Tensor) -> Tensor:
    """Square root with derivative 0 at 0."""
    return torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)


PROFILES = {
    "gaussian": Profile(
        lambda q, d: -0.5 * q,
        lambda d: 0.5 * d * math.log(2 * math.pi),
        lambda d: 1.0,
    ),
    "exponential": Profile(
        lambda q, d: -_root(q),
        lambda d: math.log(d) + _log_ball(d) + math.lgamma(d),
        lambda d: d + 1.0,
    ),
    "epanechnikov": Profile(
        lambda q, d: _log(1 - q),
        lambda d: _log_ball(d) + math.log(2 / (d + 2)),
        lambda d: 1 / (d + 4),
    ),
    "tophat": Profile(
        lambda q, d: torch.where(q < 1, torch.zeros_like(q), -torch.inf),
        _log_ball,
        lambda d: 1 / (d + 2),
    ),
    # Student's law with one degree of freedom: tails so heavy that it has no variance.
    "cauchy": Profile(
        lambda q, d: -0.5 * (d + 1) * torch.log1p(q),
        lambda d: 0.5 * (d + 1) * math.log(math.pi) - math.lgamma(0.5 * (d + 1)),
        lambda d: 1.0,
    ),
}
"""Gaussian, exponential (of the distance), Epanechnikov (a paraboloid), the ball, and Cauchy."""


def profile(name: str) -> Profile:
    """The kernel of that name; raises ``ValueError`` for another."""
    if name not in PROFILES:
        raise ValueError(f"kernel: expected one of {list(PROFILES)}, found {name!r}.")
    return PROFILES[name]
