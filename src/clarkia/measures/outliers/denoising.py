"""Score rows by how badly a denoiser that learned the usual ones restores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import at_level, check_count, check_gaussian, check_levels, check_points
from clarkia.measures.likelihood.evaluate import predict
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn

CHUNK = 4096


@dataclass(frozen=True, eq=False)
class DenoisingError:
    """Score rows by ``|x0_hat(x + noise) - x|^2`` at chosen noise levels, each relative to that of usual rows.

    The same noise is added to every row, so that a row's score is the same in every batch.

    Args:
        denoiser: Any denoiser of one continuous block, ``denoiser(x_t, t) -> x0_hat``.
        process: Its Gaussian process.
        noise_levels: Ratios ``sigma / alpha`` that the process reaches, each positive.
        num_draws: Draws of the noise at each level.

    Raises:
        ValueError: Another process, levels out of its reach, no draw.

    Source: Denoising Diffusion Models for Out-of-Distribution Detection (2022).
    """

    denoiser: Denoiser
    process: Gaussian
    noise_levels: tuple[float, ...]
    num_draws: int = 8

    def __post_init__(self) -> None:
        check_levels(self.noise_levels, check_gaussian(self.process))
        check_count(self.num_draws, "num_draws")

    def fit(self, features: Any, labels: Any = None, *, generator: Noise = None) -> FittedDenoisingError:
        """Draw the noise and take the mean error of usual rows at each level.

        Args:
            features: Usual rows ``(n, ...)``, as the denoiser takes them.
            labels: Not looked at.
            generator: Source of the noise.
        """
        x = check_points(features, "features")
        noise = randn((len(self.noise_levels), self.num_draws, *x.shape[1:]), generator, dtype=x.dtype)
        fitted = FittedDenoisingError(self, noise.to(x.device), torch.ones(len(self.noise_levels), dtype=torch.float64))
        usual = fitted.errors(x).mean(0)
        # A denoiser without any error on usual rows leaves nothing to divide by: its errors count as they are.
        return FittedDenoisingError(self, fitted.noise, usual.where(usual > 0, 1.0))


@dataclass(frozen=True, eq=False)
class FittedDenoisingError:
    """A denoiser, the noise it is tried with, and its errors on usual rows.

    Attributes:
        settings: The scorer that was fitted.
        noise: Standard normal noise, ``(levels, draws, ...)``.
        usual: Mean squared error of the usual rows at each level, float64 ``(levels,)``.
    """

    settings: DenoisingError
    noise: Tensor
    usual: Float64[Tensor, " levels"]

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """Mean over the levels of each row's error relative to that of usual rows, ``(n,)``: 1 is usual."""
        return (self.errors(features) / self.usual).mean(1)

    @torch.no_grad()
    def errors(self, features: Any) -> Float64[Tensor, "n levels"]:
        """Squared error of the restored rows, summed over their elements and averaged over draws, ``(n, levels)``."""
        x = check_points(features, "features")
        if x.shape[1:] != self.noise.shape[2:]:
            expected, found = tuple(self.noise.shape[2:]), tuple(x.shape[1:])
            raise ValueError(f"features: expected points of shape {expected} as were fitted, found {found}.")
        levels = torch.as_tensor(self.settings.noise_levels, dtype=torch.float64)
        return torch.cat([
            torch.stack([self._error(rows, level, noise) for level, noise in zip(levels, self.noise, strict=True)], 1)
            for rows in x.split(max(1, CHUNK // self.settings.num_draws))
        ])  # fmt: skip

    def _error(self, x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
        clean = x.repeat(len(draws), *(1,) * (x.ndim - 1))
        t, alpha = at_level(self.settings.process, level, clean)
        noisy = alpha * (clean + level.to(x.dtype) * draws.to(x).repeat_interleave(len(x), 0))
        x0_hat = predict(self.settings.denoiser, self.settings.process, noisy, t)
        return (x0_hat - clean).square().flatten(1).sum(1).reshape(len(draws), -1).mean(0)
