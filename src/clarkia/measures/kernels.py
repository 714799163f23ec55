"""Kernels: similarities of pairs of rows, as values. Each is called with two blocks and returns their Gram matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import distances, median_distance, safe_power, squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]
Gram = Float64[Tensor, "a b"]

MIXTURE = (0.25, 0.5, 1.0, 2.0, 4.0)  # bandwidths over the median distance


@dataclass(frozen=True)
class Gaussian:
    """``exp(-r^2 / (2 bandwidth^2))``."""

    bandwidth: float

    def __post_init__(self) -> None:
        _positive(self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        return self.log(x, y).exp_()

    def log(self, x: Tensor, y: Tensor) -> Gram:
        """Logarithm of the Gram matrix, which does not underflow."""
        return squared_distances(x, y).mul_(-0.5 / self.bandwidth**2)


@dataclass(frozen=True)
class Laplace:
    """``exp(-r / bandwidth)`` with the Euclidean distance r."""

    bandwidth: float

    def __post_init__(self) -> None:
        _positive(self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        return (distances(x, y) / -self.bandwidth).exp_()


@dataclass(frozen=True)
class InverseMultiquadric:
    """``(1 + r^2 / (2 bandwidth^2))^{-1/2}``: tails far heavier than a Gaussian's."""

    bandwidth: float

    def __post_init__(self) -> None:
        _positive(self.bandwidth)

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        return (1 + squared_distances(x, y) / (2 * self.bandwidth**2)).rsqrt()


@dataclass(frozen=True)
class Polynomial:
    """``(x.y / d + offset)^degree``: compares the moments up to the degree. The defaults are those of KID."""

    degree: int = 3
    offset: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1 or self.degree != int(self.degree):
            raise ValueError(f"degree: expected a positive integer, found {self.degree}.")

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        return (x.double() @ y.double().T).div_(x.shape[1]).add_(self.offset).pow_(self.degree)


@dataclass(frozen=True)
class Linear:
    """``x.y``: compares the means."""

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        return x.double() @ y.double().T


@dataclass(frozen=True)
class Energy:
    """``-r^exponent``: for exponents in (0, 2) its squared MMD is the energy distance."""

    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.exponent <= 2:
            raise ValueError(f"exponent: expected a number in (0, 2], found {self.exponent}.")

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        if self.exponent == 1:
            return -distances(x, y)
        return -safe_power(squared_distances(x, y), self.exponent / 2)


@dataclass(frozen=True)
class Sum:
    """The sum of several kernels: it sees whatever one of them sees."""

    kernels: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        if not self.kernels:
            raise ValueError("kernels: expected at least one kernel, found none.")

    def __call__(self, x: Tensor, y: Tensor) -> Gram:
        """Gram matrix ``(a, b)`` of rows ``(a, d)`` and ``(b, d)``."""
        total = self.kernels[0](x, y)
        for kernel in self.kernels[1:]:
            total = total + kernel(x, y)
        return total


def gaussian_median(*sets: Float64[Tensor, "n d"], generator: torch.Generator | None = None) -> Gaussian:
    """Gaussian kernel with the median distance of the pooled rows as bandwidth.

    The sets are pooled before any rows are drawn, so the kernel does not depend on which is which: a permutation test
    needs that. See `clarkia._math.pairwise.median_distance` for rows that coincide.

    Source: A Kernel Two-Sample Test (2012).
    """
    return Gaussian(median_distance(*sets, generator=generator))


def gaussian_mixture(
    *sets: Float64[Tensor, "n d"], factors: Sequence[float] = MIXTURE, generator: torch.Generator | None = None
) -> Sum:
    """Sum of Gaussian kernels with bandwidths ``factors`` times the median distance of the pooled rows."""
    median = gaussian_median(*sets, generator=generator).bandwidth
    return Sum(tuple(Gaussian(factor * median) for factor in factors))


def _positive(bandwidth: float) -> None:
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth: expected a positive finite number, found {bandwidth}.")
