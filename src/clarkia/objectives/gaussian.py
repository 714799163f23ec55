"""The denoising loss of every Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.objectives.balance import LevelBalance
from clarkia.objectives.noise import EDM_LEVELS, NoiseLevels, draw_levels, time_of
from clarkia.objectives.observed import Observed, draw_observed
from clarkia.objectives.weights import WEIGHTS, Weight, output_variance
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise


@dataclass(frozen=True)
class Denoising:
    """Squared error of ``x0_hat``, weighed by noise level and averaged over the elements of a row.

    Every published Gaussian loss is this one with its weight and its law of noise levels; flow matching is
    ``weight="flow", noise=LogitNormal()`` under `RectifiedFlow`.

    Args:
        process: The corruption.
        weight: A name of `weights.WEIGHTS` ("x0", "eps", "v", "flow", "edm", "min_snr", "p2"), or a function ``w(s)``
            of ``s = sigma / alpha``, float64 and broadcastable against a batch.
        noise: Law of ``ln s``; drawn stratified over the batch. Levels that the process lacks count as its nearest.
        data_std: Standard deviation of the clean data, one number or broadcastable against a data point; that of the
            denoiser's preconditioning.
        observed: Function ``(x0, generator) -> bool`` that says which elements are shown as they are, at time 0, and
            left out of the loss; None shows none.
        balance: A learned weight on top, or None.

    Raises:
        ValueError: An unknown weight, or a data_std that is not positive.

    Sources: Elucidating the Design Space of Diffusion-Based Generative Models (2022); Understanding Diffusion
    Objectives as the ELBO with Simple Data Augmentation (2023).
    """

    process: Gaussian
    weight: str | Weight = "edm"
    noise: NoiseLevels = EDM_LEVELS
    data_std: float | Tensor = 0.5
    observed: Observed | None = None
    balance: LevelBalance | None = None

    def __post_init__(self) -> None:
        if isinstance(self.weight, str) and self.weight not in WEIGHTS:
            raise ValueError(f"weight: expected one of {list(WEIGHTS)} or a function, found {self.weight!r}.")
        if not bool((torch.as_tensor(self.data_std) > 0).all()):
            raise ValueError(f"data_std: expected positive numbers, found {self.data_std}.")

    def __call__(
        self, denoiser: Any, x0: Float[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """Loss of every row, float32 or better; balanced where a balance is given.

        Args:
            denoiser: ``denoiser(x_t, t, condition=None) -> x0_hat``.
            x0: Clean data.
            generator: Source of randomness.
            condition: Handed to the denoiser where not None.
        """
        losses, log_ratio = self.with_levels(denoiser, x0, generator, condition)
        return losses if self.balance is None else self.balance(losses, log_ratio)

    def with_levels(
        self, denoiser: Any, x0: Float[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n ..."]]:
        """Loss of every row without balance, and the ``ln s`` it was drawn at; arguments as in a call.

        An average over the elements that are not observed; 0 for a row that has none.
        """
        log_ratio = draw_levels(self.noise, len(x0), generator, device=x0.device)
        # The denoiser sees times in the state's precision, so the noise is that of the rounded time.
        t = time_of(self.process, log_ratio).to(x0.dtype)
        shown = draw_observed(self.observed, x0, generator)
        if shown is not None:
            t = torch.where(shown, 0.0, spread(t, x0))
        x_t = self.process.corrupt(x0, t, generator=generator)
        x0_hat = denoiser(x_t, t) if condition is None else denoiser(x_t, t, condition)
        error = self._error(x0_hat, x0, t)
        if shown is None:
            return error.reshape(len(x0), -1).mean(1), log_ratio
        hidden = (~shown).reshape(len(x0), -1).sum(1)
        total = torch.where(shown, 0.0, error).reshape(len(x0), -1).sum(1)
        return total / hidden.clamp(min=1), log_ratio

    def _error(self, x0_hat: Tensor, x0: Tensor, t: Tensor) -> Float[Tensor, "n ..."]:
        """``w (x0_hat - x0)^2`` as ``(w c_out^2) ((x0_hat - x0) / c_out)^2``: neither factor can overflow."""
        time = spread(t, x0).double()
        s = self.process.kappa(time).clamp(
            1e-7, 1e7
        )  # beyond every draw; finite for observed elements and at alpha = 0
        data_std = self.data_std
        if isinstance(data_std, Tensor):
            data_std = data_std.to(s)
        weight = WEIGHTS[self.weight](data_std) if isinstance(self.weight, str) else self.weight
        variance = output_variance(s, data_std)
        dtype = torch.promote_types(x0.dtype, torch.float32)
        scaled = (x0_hat.to(dtype) - x0.to(dtype)) * variance.rsqrt().to(dtype)
        return (weight(s) * variance).to(dtype) * scaled.square()
