"""A matrix, and several operators in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clarkia.operators.linear import LinearOperator, sizes, small_svd
from clarkia.operators.svd import SVD, dense_svd


class Dense(LinearOperator):
    """A matrix over the flattened data point.

    Args:
        matrix: ``(c, d)``, or ``(d,)`` for a single number.
        shape: Shape of a data point of d elements; ``(d,)`` by default.

    Raises:
        ValueError: Shapes that do not fit, or numbers that are not finite.
    """

    def __init__(self, matrix: Any, shape: Sequence[int] | None = None) -> None:
        values = torch.atleast_2d(torch.as_tensor(matrix, dtype=torch.float64))
        if values.ndim != 2 or not bool(values.isfinite().all()):
            raise ValueError(f"matrix: expected finite numbers of shape (c, d), found shape {tuple(values.shape)}.")
        self.shape = sizes(values.shape[1:] if shape is None else tuple(shape))
        if math.prod(self.shape) != values.shape[1]:
            raise ValueError(f"shape: expected {values.shape[1]} elements as the matrix has columns, found {shape}.")
        self.measured_shape = (len(values),)
        self._matrix = values

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self._matrix.to(x).T

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self._matrix.to(y)).reshape(-1, *self.shape)

    def _decompose(self) -> SVD:
        return dense_svd(self._matrix, self.shape, self.measured_shape)


class Stack(LinearOperator):
    """Several measurements of one point, flattened and side by side.

    Args:
        *operators: Linear operators of one data shape.

    Raises:
        ValueError: None, or operators of different shapes.
    """

    def __init__(self, *operators: LinearOperator) -> None:
        shapes = {operator.shape for operator in operators}
        if len(shapes) != 1:
            raise ValueError(f"operators: expected some of one data shape, found {sorted(shapes)}.")
        self.operators = operators
        self.shape = operators[0].shape
        self._counts = [math.prod(operator.measured_shape) for operator in operators]
        self.measured_shape = (sum(self._counts),)

    def _apply(self, x: Tensor) -> Tensor:
        return torch.cat([operator.apply(x).flatten(1) for operator in self.operators], 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, y.split(self._counts, 1), strict=True)
        pulled = [operator.adjoint(part.unflatten(1, operator.measured_shape)) for operator, part in parts]
        return torch.stack(pulled).sum(0)

    def _decompose(self) -> SVD | None:
        return small_svd(self)
