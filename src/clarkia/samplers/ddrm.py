"""Linear inverse problems in the singular directions of the measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clarkia.operators import SVD, LinearOperator, Measurement
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise, randn
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True, eq=False)
class DDRM(Staged):
    """Steps that weigh prediction against measurement direction by direction, without a gradient.

    Along a singular direction of value a the measurement is a noisy datum ``yb`` of deviation ``noise_std / a``. While
    the run's own noise is larger, the state is drawn around ``yb`` so that the two add up to it; below, the noise of
    the state is partly taken from what ``yb`` differs from the prediction. Directions that are not measured follow
    DDIM. A run that starts at t = 1 is started from the prior shifted to the measurement.

    Args:
        operator: ``A``, one with singular values.
        y: The measurement, or one a row.
        noise_std: Deviation of its noise; 0 for a certain measurement.
        eta: Share of fresh noise in directions where the measurement is noisier than the state, or absent.
        eta_b: How far a state noisier than the measurement is drawn to it.

    Raises:
        ValueError: Shares outside [0, 1], an operator without singular values, a certain measurement that no data
            point could have given; in use, times or schedules that differ by element.

    Source: Denoising Diffusion Restoration Models (2022).
    """

    operator: LinearOperator
    y: Tensor
    noise_std: float
    eta: float = 0.85
    eta_b: float = 1.0
    _measurement: Measurement = field(init=False, repr=False)
    _svd: SVD = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise ValueError(f"eta, eta_b: expected numbers from 0 to 1, found {self.eta} and {self.eta_b}.")
        svd = self.operator.svd()
        if svd is None:
            raise ValueError(f"operator: expected one with singular values, found a {type(self.operator).__name__}.")
        object.__setattr__(self, "_svd", svd)
        object.__setattr__(self, "_measurement", Measurement(self.operator, self.y, self.noise_std))

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> bool:
        """Whether the run is still to be shifted to the measurement."""
        require(process, Gaussian, "DDRM")
        return True

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: bool, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (_by_row(process, x, time) for time in (t, s))
        values = self._svd.values.to(x)
        datum = self._svd.u_t(self._measurement.rows(x)) / values
        if carry:
            x = torch.where(spread(t, x) == 1, self._shifted(x, alpha_t, sigma_t, datum), x)
        x0_hat = yield x, t
        z = randn(x.shape, generator, dtype=x.dtype, device=x.device)
        calm = math.sqrt(1 - self.eta**2)
        alpha, sigma = process.coefficients(s, x)
        x_s = alpha * x0_hat + sigma * (calm * process.epsilon(x, x0_hat, t) + self.eta * z)

        mean = self._svd.v_t(x0_hat)
        noisier = sigma_s * values < alpha_s * self.noise_std
        share = values / (self.noise_std or 1.0)
        below = alpha_s * mean + calm * sigma_s * share * (datum - mean)
        above = alpha_s * (mean + self.eta_b * (datum - mean))
        rest = (sigma_s**2 - (alpha_s * self.eta_b * self.noise_std / values) ** 2).clamp(min=0).sqrt()
        std = torch.where(noisier, self.eta * sigma_s, rest)
        drawn = torch.where(noisier, below, above) + std * self._svd.v_t(z)
        x_s = x_s + self._svd.v(drawn - self._svd.v_t(x_s))
        return torch.where(spread(s, x) < spread(t, x), x_s, x), False

    def _shifted(self, x: Tensor, alpha: Tensor, sigma: Tensor, datum: Tensor) -> Tensor:
        """A draw of pure noise, moved and narrowed along the measured directions."""
        noise = self._svd.v_t(x)
        known = (alpha * self.noise_std / self._svd.values.to(x)) ** 2
        narrow = (sigma**2 - known).clamp(min=0).sqrt() / torch.where(sigma > 0, sigma, 1.0)
        return x + self._svd.v(alpha * datum + (narrow - 1) * noise)


def _by_row(process: Gaussian, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and sigma, each ``(n, 1)`` or ``(1, 1)``."""
    alpha, sigma = process.coefficients(t, x)
    if alpha[:1].numel() > 1 or sigma[:1].numel() > 1:
        raise ValueError(
            "t: expected one time and one schedule for all elements of a row, as singular directions mix them; "
            "put known elements into the operator."
        )
    return alpha.reshape(-1, 1), sigma.reshape(-1, 1)
