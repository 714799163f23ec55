"""A learned weight for every noise level: losses of all levels made equally large as training goes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.random import generator


class LevelBalance(nn.Module):
    """Turns losses L at levels ``ln s`` into ``L / exp(u(ln s)) + u(ln s)`` with a learned u.

    At the optimum ``exp(u)`` is the expected loss of its level, so that every level is weighed by the inverse of what
    it still costs. The function is one weight-normalised linear layer on fixed Fourier features of ``ln s / 4``. Its
    weights must be among those that are trained, so keep the module beside the network, in a `torch.nn.ModuleDict`.

    Args:
        features: Number of Fourier features, ``sqrt(2) cos(2 pi (f c + phi))`` with f normal and phi uniform.
        seed: Fixes the features and the first weights.

    Source: Analyzing and Improving the Training Dynamics of Diffusion Models (2023).
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self, features: int = 128, *, seed: int = 0) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features: expected at least 1, found {features}.")
        noise = generator(seed)
        self.register_buffer("frequency", torch.randn(features, generator=noise))
        self.register_buffer("phase", torch.rand(features, generator=noise))
        self.weight = nn.Parameter(torch.randn(features, generator=noise))

    def level(self, log_ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """``u``, the logarithm of the loss that is expected at each ``ln s``."""
        noise = 0.25 * log_ratio.to(self.weight.dtype).unsqueeze(-1)
        waves = math.sqrt(2) * torch.cos(2 * math.pi * (self.frequency * noise + self.phase))
        # A product and a sum, which autocast leaves in single precision: u is the logarithm of a loss.
        return (waves * (self.weight / self.weight.norm())).sum(-1)

    def forward(self, losses: Float[Tensor, " n"], log_ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Balanced losses of rows at levels ``ln s``."""
        if log_ratio.shape != losses.shape:
            raise ValueError(
                f"log_ratio: expected one noise level a row, {tuple(losses.shape)}, found {tuple(log_ratio.shape)}."
            )
        u = self.level(log_ratio)
        return losses * torch.exp(-u) + u
