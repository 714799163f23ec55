"""Noise-contrastive training of an energy: the data against the denoiser's own guesses of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.processes import Masked
from clarkia.processes.kernels import reveal
from clarkia.random import Noise, rand


@dataclass(frozen=True)
class ResidualNCE:
    """Tell the clean row from one that the frozen denoiser draws cell by cell from the same noisy row.

    The loss ``softplus(E(x_0)) + softplus(-E(x_0^-))`` is least where ``exp(-E)`` is the ratio of the true posterior
    ``q(x_0 | x_t)`` to ``prod_i p0_hat(x_0^i | x_t)``, so the corrected law comes out normalised.

    Args:
        process: The masked process of the denoiser.
        base: The denoiser; no gradient reaches it.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024).
    """

    process: Masked
    base: Any

    def __call__(
        self, energy: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """Loss of each row.

        Args:
            energy: What is trained: ``energy(x_0, x_t, t, log_probs) -> (n,)``, such as `networks.EnergyHead`.
            x0: Clean classes.
            generator: Source of randomness.
            condition: Of the denoiser, passed on where not None.
        """
        with torch.no_grad():
            t = 1 - stratified(len(x0), generator, device=x0.device)  # in (0, 1]
            x_t = self.process.corrupt(x0, t, generator=generator)
            time = t.to(torch.get_default_dtype())
            log_probs = self.base(x_t, time, *(() if condition is None else (condition,)))
            uniforms = rand(x0.shape, generator, device=x0.device)
            guess = reveal(x_t, self.process.is_masked(x_t), log_probs, uniforms)
        # One call for both, so that layers which draw (dropout) or reduce see data and guesses alike.
        twice = (torch.cat([part, part]) for part in (x_t, time, log_probs))
        true, false = energy(torch.cat([x0, guess]), *twice).float().chunk(2)
        return F.softplus(true) + F.softplus(-false)
