"""Some elements of a data point, as they are."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from clarkia.operators.linear import LinearOperator, sizes
from clarkia.operators.svd import SVD


class Mask(LinearOperator):
    """The measured elements of a data point in a row: inpainting.

    Args:
        measured: bool of the shape of a data point, True where it is measured.

    Raises:
        ValueError: Another dtype, or nothing measured.
    """

    def __init__(self, measured: Bool[Tensor, "..."]) -> None:
        if measured.dtype != torch.bool or not bool(measured.any()):
            raise ValueError(f"measured: expected booleans, some of them True, found {measured.dtype}.")
        self.measured = measured
        self.shape = sizes(measured.shape, "measured")
        self.measured_shape = (int(measured.sum()),)

    def _apply(self, x: Tensor) -> Tensor:
        return x[:, self.measured.to(x.device)]

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.shape)
        x[:, self.measured.to(y.device)] = y
        return x

    def _decompose(self) -> SVD:
        ones = torch.ones(self.measured_shape, dtype=torch.float64)
        return SVD(ones, self._apply, self._adjoint, lambda y: y, lambda c: c)
