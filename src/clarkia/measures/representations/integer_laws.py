"""Laws of whole numbers whose probabilities a code needs: normal by scale, and logistic mixtures by channel.

Each is a density folded over unit intervals, ``P(k) = F(k + 1/2) - F(k - 1/2)``, so that uniform noise of width one in
place of rounding has the same expected code length and a gradient.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

SCALES = torch.linspace(math.log(0.11), math.log(256.0), 64, dtype=torch.float64).exp()
"""Standard deviations that normal laws are coded with; the nearest costs 0.006 bits at most."""


def normal_log_prob(x: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``log P(x)`` under a normal law of mean 0, by the interval ``[x - 1/2, x + 1/2]``.

    Args:
        x: Whole numbers, or any others in training.
        scale: Standard deviations, positive, of a shape that fits.
    """
    x = x.abs()  # the lower tail keeps its digits
    upper, lower = (torch.special.log_ndtr((half - x) / scale) for half in (0.5, -0.5))
    return upper + _log_minus_one(lower - upper)


def scale_index(log_scale: Float[Tensor, "..."]) -> Tensor:
    """Index of the nearest of `SCALES` by ratio, uint8."""
    low, high = math.log(SCALES[0]), math.log(SCALES[-1])
    return ((log_scale - low) / (high - low) * (len(SCALES) - 1)).round().clamp(0, len(SCALES) - 1).to(torch.uint8)


class LogisticMixture(nn.Module):
    """A law a channel: a mixture of logistic laws.

    Args:
        channels: Number of channels.
        parts: Number of logistic laws of each.
    """

    def __init__(self, channels: int, parts: int = 3) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.linspace(-1, 1, parts).repeat(channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, parts))
        self.logit = nn.Parameter(torch.zeros(channels, parts))

    def log_prob(self, x: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """``log P(x)``, each channel by its own law."""
        shape = (1, x.shape[1], *(1,) * (x.ndim - 2), -1)
        mean, scale = self.mean.reshape(shape), self.log_scale.exp().reshape(shape)
        distance = (x.unsqueeze(-1) - mean).abs()
        upper, lower = (nn.functional.logsigmoid((half - distance) / scale) for half in (0.5, -0.5))
        parts = upper + _log_minus_one(lower - upper)
        return torch.logsumexp(parts + self.logit.log_softmax(-1).reshape(shape), -1)


def _log_minus_one(gap: Tensor) -> Tensor:
    """``log(1 - exp(gap))`` of a negative gap."""
    return torch.log(-torch.expm1(gap))
