"""Pictures of fewer, larger points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clarkia.operators.linear import LinearOperator, sizes
from clarkia.operators.svd import SVD


class Downsample(LinearOperator):
    """Means over blocks of the last two axes, of the only axis of a point with one: super-resolution.

    Args:
        shape: Shape of a data point, such as ``(channels, height, width)``.
        factor: Side of a block, a divisor of the last two sizes.

    Raises:
        ValueError: A factor that does not divide them.
    """

    def __init__(self, shape: Sequence[int], factor: int) -> None:
        self.shape, self.factor = sizes(tuple(shape)), factor
        axes = min(2, len(self.shape))
        if factor < 1 or any(size % factor for size in self.shape[-axes:]):
            raise ValueError(f"factor: expected a divisor of {self.shape[-axes:]}, found {factor}.")
        self.measured_shape = (*self.shape[:-axes], *(size // factor for size in self.shape[-axes:]))
        self._axes = axes

    def _apply(self, x: Tensor) -> Tensor:
        for axis in range(-self._axes, 0):
            x = x.unflatten(axis, (-1, self.factor)).mean(axis)
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        for axis in range(-self._axes, 0):
            y = y.repeat_interleave(self.factor, axis)
        return y / self.factor**self._axes

    def _decompose(self) -> SVD:
        # Blocks do not overlap, so that A A^T is a multiple of the identity.
        value = self.factor ** (-self._axes / 2)
        values = torch.full((int(torch.Size(self.measured_shape).numel()),), value, dtype=torch.float64)
        back = (-1, *self.measured_shape)
        return SVD(
            values,
            lambda x: self._apply(x).flatten(1) / value,
            lambda c: self._adjoint(c.reshape(back)) / value,
            lambda y: y.flatten(1),
            lambda c: c.reshape(back),
        )
