"""A measurement: an operator, what it gave, and how noisy that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.operators.linear import LinearOperator
from clarkia.operators.nonlinear import normal_log_density


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured of a data point, ``y = A x_0 + noise_std eps``.

    Args:
        operator: ``A``.
        y: The measurement, ``measured_shape``, or one a row ``(n, *measured_shape)``.
        noise_std: Standard deviation of the noise; 0 for a certain measurement.

    Raises:
        ValueError: A measurement of another shape or with numbers that are not finite, a negative noise, or a
            certain measurement that no data point could have given.
    """

    operator: LinearOperator
    y: Tensor
    noise_std: float

    def __post_init__(self) -> None:
        shape, y = self.operator.measured_shape, self.y
        if not isinstance(y, Tensor) or not y.is_floating_point() or tuple(y.shape) not in (shape, (len(y), *shape)):
            found = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            rows = ", ".join(map(str, shape))
            raise ValueError(f"y: expected a floating tensor of shape ({rows}) or (n, {rows}), found {found}.")
        if not bool(y.isfinite().all()):
            raise ValueError("y: expected finite numbers, found a NaN or infinity.")
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std: expected a non-negative number, found {self.noise_std}.")
        if tuple(y.shape) == shape:
            object.__setattr__(self, "y", y.unsqueeze(0))
        if self.noise_std == 0:
            self._check_possible()

    def rows(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The measurement of every row of a state, in its dtype.

        Raises:
            ValueError: As many measurements as the state has rows are expected, or one.
        """
        if len(self.y) not in (1, len(x)):
            raise ValueError(f"y: expected one measurement or one for each of {len(x)} rows, found {len(self.y)}.")
        return self.y.to(x).expand(len(x), *self.y.shape[1:])

    def residual(self, x0: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``y - A x0``."""
        return self.rows(x0) - self.operator.apply(x0)

    def log_likelihood(self, x0: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Log-density of the measurement given data points, float64 ``(n,)``, differentiable in them.

        Raises:
            ValueError: A measurement without noise, which has no density.
        """
        if self.noise_std == 0:
            raise ValueError("noise_std: expected a positive number for a likelihood, found 0.")
        return normal_log_density(self.operator.apply(x0.double()), self.rows(x0).double(), self.noise_std)

    def _check_possible(self) -> None:
        distance = self.operator.distance_to_range(self.y)
        size = self.y.flatten(1).norm(dim=1)
        # A measurement that was computed in this precision is off by its rounding.
        bad = distance > 1e3 * torch.finfo(self.y.dtype).eps * size
        if bool(bad.any()):
            row = int(bad.int().argmax())
            raise ValueError(
                f"y: expected a measurement that some data point could give, found row {row} at distance "
                f"{float(distance[row]):.3g} from all of these; give noise_std > 0."
            )
