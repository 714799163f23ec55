"""What a linear measurement is: a map, its adjoint, and all that its singular values tell."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.operators.conjugate import conjugate_gradients
from clarkia.operators.svd import SVD, dense_svd

DENSE_LIMIT = 2**21
"""Entries of a matrix up to which an operator without a structure of its own is decomposed as a matrix."""


class LinearOperator(ABC):
    """A linear map ``A`` from data points to measurements, batch first, in the precision of its argument.

    Noise is never part of it: the same map must be applied to a prediction.

    Attributes:
        shape: Shape of a data point.
        measured_shape: Shape of its measurement.
    """

    shape: tuple[int, ...]
    measured_shape: tuple[int, ...]

    def apply(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``A x``: measurements ``(n, *measured_shape)`` of points ``(n, *shape)``; raises for any other shape."""
        return self._apply(_checked(x, self.shape, "x"))

    def adjoint(self, y: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``A^T y``: from ``(n, *measured_shape)`` to ``(n, *shape)``; raises for any other shape."""
        return self._adjoint(_checked(y, self.measured_shape, "y"))

    def svd(self) -> SVD | None:
        """The singular value decomposition, exact; None for a large operator without a structure that gives it."""
        return self._svd

    def pinv(self, y: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``A^+ y``, the shortest of the points whose measurement is nearest to ``y``; ``(n, *shape)``."""
        y = _checked(y, self.measured_shape, "y")
        if self._svd is None:
            normal = self._adjoint(y)
            return conjugate_gradients(lambda x: self._adjoint(self._apply(x)), normal)
        return self._svd.v(self._svd.u_t(y) / self._svd.values.to(y))

    def solve(
        self, weight: Tensor | float, variance: Tensor | float, r: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n ..."]:
        """``(weight A A^T + variance I)^-1 r``, the pseudo-inverse where that matrix is singular.

        Args:
            weight: A non-negative number, or one a row ``(n,)``.
            variance: The same.
            r: ``(n, *measured_shape)``.

        Returns:
            ``(n, *measured_shape)``.
        """
        r = _checked(r, self.measured_shape, "r")
        weight, variance = (_by_row(number, r) for number in (weight, variance))
        if self._svd is None:
            high = (-1, *(1,) * (r.ndim - 1))
            w, v = weight.reshape(high), variance.reshape(high)
            return conjugate_gradients(lambda u: w * self._apply(self._adjoint(u)) + v * u, r)
        inside = self._svd.u_t(r)
        outside = r - self._svd.u(inside)
        apart = _inverse(variance).reshape(-1, *(1,) * (r.ndim - 1)) * outside
        return apart + self._svd.u(_inverse(weight * self._svd.values.to(r) ** 2 + variance) * inside)

    def distance_to_range(self, y: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """How far each measurement is from all those that points without noise could give, ``|y - A A^+ y|``."""
        y = _checked(y, self.measured_shape, "y")
        within = self._apply(self.pinv(y)) if self._svd is None else self._svd.u(self._svd.u_t(y))
        return (y - within).flatten(1).norm(dim=1)

    def matrix(self) -> Float[Tensor, "c d"]:
        """The matrix over flattened points and measurements, float64."""
        d = math.prod(self.shape)
        return self._apply(torch.eye(d, dtype=torch.float64).reshape(d, *self.shape)).reshape(d, -1).T

    @cached_property
    def _svd(self) -> SVD | None:
        return self._decompose()

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:
        """``A x`` of a checked batch."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` of a checked batch."""

    @abstractmethod
    def _decompose(self) -> SVD | None:
        """The decomposition in closed form, `small_svd` where there is none."""


def small_svd(operator: LinearOperator) -> SVD | None:
    """The decomposition of an operator's matrix; None where that has more than `DENSE_LIMIT` entries."""
    if math.prod(operator.shape) * math.prod(operator.measured_shape) > DENSE_LIMIT:
        return None
    return dense_svd(operator.matrix(), operator.shape, operator.measured_shape)


def sizes(shape: int | tuple[int, ...] | list[int] | torch.Size, name: str = "shape") -> tuple[int, ...]:
    """A shape as a tuple of positive numbers; raises ``ValueError`` otherwise."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"{name}: expected positive whole numbers, found {shape}.")
    return shape


def _checked(x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point() or tuple(x.shape[1:]) != shape or x.ndim == 0:
        found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{name}: expected a floating tensor of shape (n, {', '.join(map(str, shape))}), found {found}."
        )
    return x


def _by_row(number: Tensor | float, r: Tensor) -> Tensor:
    """A number, or one a row, as ``(1, 1)`` or ``(n, 1)``."""
    number = torch.as_tensor(number, dtype=r.dtype, device=r.device)
    if number.numel() not in (1, len(r)):
        raise ValueError(f"weight, variance: expected one number or {len(r)}, found {number.numel()}.")
    return number.reshape(-1, 1)


def _inverse(values: Tensor) -> Tensor:
    return torch.where(values > 0, 1 / torch.where(values > 0, values, 1.0), 0.0)
