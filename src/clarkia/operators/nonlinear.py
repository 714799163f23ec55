"""Measurements that are not linear: they have a likelihood, and neither an adjoint nor singular values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.operators.linear import sizes


class Nonlinear:
    """Any function of a data point, measured with normal noise; for guidance and rewards through its likelihood.

    Args:
        function: From points ``(n, *shape)`` to measurements ``(n, ...)``, differentiable where gradients are wanted.
        shape: Shape of a data point.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> None:
        self.function, self.shape = function, sizes(tuple(shape))

    def apply(self, x: Float[Tensor, "n ..."]) -> Tensor:
        """The measurement without noise; raises ``ValueError`` for another shape."""
        _check_points(x, self.shape, "x")
        return self.function(x)

    def log_likelihood(self, x0: Float[Tensor, "n ..."], y: Any, noise_std: float) -> Float[Tensor, " n"]:
        """Log-density of measuring ``y``, float64 ``(n,)``, differentiable in ``x0``.

        Args:
            x0: Points ``(n, *shape)``.
            y: One measurement, or one a row.
            noise_std: Standard deviation of the noise, positive.
        """
        if not noise_std > 0:
            raise ValueError(f"noise_std: expected a positive number, found {noise_std}.")
        found = self.apply(x0).double()
        return normal_log_density(found, torch.as_tensor(y).to(found), noise_std)


class Quantise:
    """Elements as the number of the interval they fall in: equal intervals from low to high, the outer two open.

    It is not linear. One bit tells on which side of the middle an element is.

    Args:
        shape: Shape of a data point.
        bits: Two to this power intervals.
        low: Lower end of the scale.
        high: Upper end.

    Raises:
        ValueError: Fewer than one bit or more than 16, or an empty scale.
    """

    def __init__(self, shape: Sequence[int], bits: int = 1, low: float = -1.0, high: float = 1.0) -> None:
        if not 1 <= bits <= 16 or not low < high:
            raise ValueError(f"bits, low, high: expected 1 to 16 bits and low < high, found {bits}, {low}, {high}.")
        self.shape = self.measured_shape = sizes(tuple(shape))
        self.num_levels, self.low, self.high = 2**bits, low, high
        self._width = (high - low) / self.num_levels

    def apply(self, x: Float[Tensor, "n ..."]) -> Int[Tensor, "n ..."]:
        """Interval of each element, int64, from 0; raises ``ValueError`` for another shape."""
        _check_points(x, self.shape, "x")
        return ((x - self.low) / self._width).floor().long().clamp(0, self.num_levels - 1)

    def centres(self, y: Int[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The middle of each interval, of the outer two as if they were closed; float64."""
        return self.low + self._width * (y.double() + 0.5)

    def log_likelihood(
        self, x0: Float[Tensor, "n ..."], y: Int[Tensor, "..."], noise_std: float
    ) -> Float[Tensor, " n"]:
        """Log-probability that points, with normal noise on every element, fall into the intervals ``y``.

        Args:
            x0: Points ``(n, *shape)``.
            y: Intervals of one measurement, or of one a row.
            noise_std: Standard deviation of the noise before quantisation; at 0 the answer is 0 or minus infinity.

        Returns:
            float64 ``(n,)``; differentiable in ``x0`` where there is noise.
        """
        _check_points(x0, self.shape, "x0")
        if noise_std < 0:
            raise ValueError(f"noise_std: expected a non-negative number, found {noise_std}.")
        y = torch.as_tensor(y, device=x0.device).expand(x0.shape)
        if noise_std == 0:
            right = (self.apply(x0) == y).flatten(1).all(1)
            return torch.where(right, 0.0, torch.full_like(right, -torch.inf, dtype=torch.float64))
        below = (self.low + self._width * y.double() - x0.double()) / noise_std
        above = below + self._width / noise_std
        inner = _log_interval(below, above)
        first, last = y == 0, y == self.num_levels - 1
        open_ = torch.where(first, torch.special.log_ndtr(above), torch.special.log_ndtr(-below))
        return torch.where(first | last, open_, inner).flatten(1).sum(1)


def normal_log_density(found: Float[Tensor, "n ..."], y: Tensor, noise_std: float) -> Float[Tensor, " n"]:
    """Log-density of ``y`` under independent normals around ``found``, ``(n,)``."""
    gap = (y - found).flatten(1)
    constant = gap.shape[1] * (math.log(noise_std) + 0.5 * math.log(2 * math.pi))
    return -0.5 * (gap / noise_std).square().sum(1) - constant


def _log_interval(below: Tensor, above: Tensor) -> Tensor:
    """Log of the normal probability of an interval, in the tail where the difference loses no digits."""
    upper = below + above > 0
    below, above = torch.where(upper, -above, below), torch.where(upper, -below, above)
    whole = torch.special.log_ndtr(above)
    return whole + torch.log(-torch.expm1(torch.special.log_ndtr(below) - whole))


def _check_points(x: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"{name}: expected shape (n, {', '.join(map(str, shape))}), found {tuple(x.shape)}.")
