"""Networks that make features cheap to code: latents that are nearly independent, and their scales."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.representations.integer_laws import SCALES, LogisticMixture, normal_log_prob
from clarkia.random import Noise, rand


class Curved(nn.Module):
    """A linear map of the channels of each position, plus what a small network over its neighbours adds.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        width: Of the network; what it adds is 0 before training.
        kernel: Positions that it sees along a side, odd.
    """

    def __init__(self, inputs: int, outputs: int, width: int, kernel: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        last = nn.Conv2d(width, outputs, kernel, padding=kernel // 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.added = nn.Sequential(nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.SiLU(), last)

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs h w"]:
        """The map and what is added."""
        return self.linear(x) + self.added(x)


class Hyperprior(nn.Module):
    """A transform to latents, rounded, whose scales are told by a few more rounded numbers a row.

    Latents y of features x follow normal laws whose standard deviations come from z; z, at half the resolution, follows
    one law a channel. Starts as the principal axes of the features, cut into even steps.

    Args:
        x: Features to start from, ``(n, c, h, w)``.
        step: Step of the latents before training, in standard deviations of a channel.
        hyper: Channels of z.
        width: Of the networks.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, x: Float[Tensor, "n c h w"], step: float, hyper: int, width: int) -> None:
        super().__init__()
        channels, kernel = x.shape[1], 1 if x.shape[2:] == (1, 1) else 3
        rows = x.transpose(0, 1).flatten(1).double()
        spread = rows.std(1, correction=0)
        self.register_buffer("centre", rows.mean(1).reshape(-1, 1, 1))
        self.register_buffer("spread", torch.where(spread > 0, spread, 1.0).reshape(-1, 1, 1))
        # Steps are their own parameters, so that the maps stay near rotations whatever the steps are.
        self.log_step = nn.Parameter(torch.full((channels, 1, 1), math.log(step)))
        self.analysis = Curved(channels, channels, width, kernel)
        self.synthesis = Curved(channels, channels, width, kernel)
        self.summary = nn.Sequential(nn.Conv2d(channels, width, 1), nn.SiLU(), nn.Conv2d(width, hyper, 1))
        last = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(last.weight)
        self.told = nn.Sequential(nn.Conv2d(hyper, width, 1), nn.SiLU(), last)
        self.law = LogisticMixture(hyper)
        variance, axes = torch.linalg.eigh(((rows - rows.mean(1, keepdim=True)) / self.spread[:, 0]).cov(correction=0))
        # A latent of a hundredth of a step is 0 in any case; its logarithm need not be smaller.
        assert last.bias is not None
        last.bias.data.copy_((variance.clamp(min=0).sqrt() / step).clamp(min=0.01).log())
        for part, matrix in ((self.analysis, axes.T), (self.synthesis, axes)):
            part.linear.weight.data.copy_(matrix[:, :, None, None])
            nn.init.zeros_(part.linear.bias)  # type: ignore[arg-type]

    def latents(self, x: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        """Latents y and z before rounding."""
        y = self.analysis((x - self.centre) / self.spread) / self.log_step.exp()
        coarse = tuple(-(-size // 2) for size in y.shape[2:])
        # The logarithm keeps fine steps' large latents within what the network can take.
        return y, F.adaptive_avg_pool2d(self.summary(y.abs().log1p()), coarse)

    def log_scales(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Logarithms of the standard deviations of y, within what codes exist for."""
        low, high = math.log(SCALES[0]), math.log(SCALES[-1])
        return self.told(F.interpolate(z, size, mode="nearest")).clamp(low, high)

    def restored(self, y: Tensor) -> Tensor:
        """Features of rounded latents."""
        return self.synthesis(y * self.log_step.exp()) * self.spread + self.centre

    def information(self, y: Tensor, z: Tensor) -> Float[Tensor, " n"]:
        """Bits of each row's y and z under their laws."""
        scale = self.log_scales(z, (y.shape[2], y.shape[3])).exp()
        nats = normal_log_prob(y, scale).flatten(1).sum(1) + self.law.log_prob(z).flatten(1).sum(1)
        return -nats / math.log(2)

    def forward(self, x: Float[Tensor, "n c h w"], noise: Noise) -> tuple[Tensor, Tensor]:
        """Bits a value and mean squared error of the standardised channels, a row; uniform noise stands for rounding.

        Args:
            x: Features.
            noise: Its source.
        """
        y, z = (part + (rand(part.shape, noise, device=part.device) - 0.5).to(part) for part in self.latents(x))
        error = ((self.restored(y) - x) / self.spread).square().flatten(1).mean(1)
        return self.information(y, z) / x[0].numel(), error
