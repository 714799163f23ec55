"""How far a denoiser is from the best there is, noise level by noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser, check_prediction
from clarkia.objectives.weights import WEIGHTS
from clarkia.processes import Gaussian
from clarkia.random import Noise


class KnownLaw(Protocol):
    """A law of data with an exact denoiser, such as `oracles.GaussianMixture`."""

    def sample(self, num_samples: int, *, generator: Noise = None) -> Tensor:
        """Draw clean data."""
        ...

    def denoiser(self, process: Any) -> Denoiser:
        """The exact posterior mean."""
        ...


@dataclass(frozen=True, eq=False)
class NoiseProfile:
    """Risks of a denoiser by noise level, means over the elements of a data point.

    Attributes:
        levels: float64 ``(m,)``, ``ln(sigma / alpha)``.
        excess: float64 ``(m,)``, weighted mean squared distance to the exact denoiser.
        standard_error: float64 ``(m,)``, of the excess.
        floor: float64 ``(m,)``, the exact denoiser's own weighted mean squared error, which no denoiser goes below.
    """

    levels: Float[Tensor, " m"]
    excess: Float[Tensor, " m"]
    standard_error: Float[Tensor, " m"]
    floor: Float[Tensor, " m"]

    def over(self, first: float, last: float) -> tuple[float, float]:
        """Mean excess over the levels in ``[first, last)``, and its standard error."""
        inside = (self.levels >= first) & (self.levels < last)
        if not bool(inside.any()):
            raise ValueError(f"first, last: expected bounds around some level, found none in [{first}, {last}).")
        error = float(self.standard_error[inside].square().sum().sqrt()) / int(inside.sum())
        return float(self.excess[inside].mean()), error


@torch.no_grad()
def noise_profile(
    denoiser: Denoiser,
    oracle: KnownLaw,
    process: Gaussian,
    levels: Tensor,
    *,
    weight: str = "eps",
    data_std: float = 1.0,
    num_samples: int = 4096,
    dtype: torch.dtype | None = None,
    generator: Noise = None,
) -> NoiseProfile:
    """Excess risk of a denoiser over the exact posterior mean at chosen noise levels.

    A denoiser's risk is the exact one's plus its mean squared distance to it; only the distance is drawn, so a small
    excess is seen through a large floor. What one level costs another in training shows as excess here.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``.
        oracle: The law of the data.
        process: The corruption that both denoise.
        levels: ``ln(sigma / alpha)``, ``(m,)``, that the process reaches.
        weight: A name of `objectives.weights.WEIGHTS`; "eps" counts errors of the predicted noise.
        data_std: Standard deviation of the data, for the weight "edm".
        num_samples: Data points a level.
        dtype: Precision in which the denoiser is called; that of the oracle's samples by default.
        generator: Source of randomness.

    Raises:
        ValueError: A level out of the process's reach, an unknown weight, or a denoiser that answers with a wrong shape
            or a number that is not finite.

    Source: Addressing Negative Transfer in Diffusion Models (2023).
    """
    if weight not in WEIGHTS:
        raise ValueError(f"weight: expected one of {list(WEIGHTS)}, found {weight!r}.")
    levels = torch.as_tensor(levels, dtype=torch.float64)
    times = process.t_of_kappa(levels.exp())
    if levels.ndim != 1 or times.shape != levels.shape or not bool(((times > 0) & (times <= 1)).all()):
        raise ValueError("levels: expected a list of ln(sigma / alpha) that the process reaches, one for all columns.")
    exact = oracle.denoiser(process)
    factors = WEIGHTS[weight](data_std)(levels.exp())
    rows = []
    for t, factor in zip(times, factors, strict=True):
        x0 = oracle.sample(num_samples, generator=generator)
        x0 = x0 if dtype is None else x0.to(dtype)
        time = t.expand(num_samples)
        x_t = process.corrupt(x0, time, generator=generator)
        found = denoiser(x_t, time.to(x_t.dtype))
        check_prediction(found, x_t, time, process)
        best = exact(x_t, time).double()
        distance = (found.double() - best).square().reshape(num_samples, -1).mean(1)
        floor = (x0.double() - best).square().mean()
        rows.append(factor * torch.stack([distance.mean(), distance.std() / num_samples**0.5, floor]))
    excess, error, floor = torch.stack(rows).unbind(1)
    return NoiseProfile(levels, excess, error, floor)
