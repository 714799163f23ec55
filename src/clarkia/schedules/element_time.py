"""Times of the elements of a row around the row's own: each a Poisson count of noise events."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PoissonElementTime:
    """Counts ``tau ~ Poisson(rate M t)``, spread about their mean to a standard deviation of ``spread M t``.

    ``tau' = clip(round((tau - lambda) / sqrt(lambda) spread M t + lambda), 0, M)`` with ``lambda = rate M t``; an
    element's time is ``tau' / M``. A rate of 1 without spread is nearly one time for all; the published 2 and 2 put
    more than half of the elements at an end at t = 0.5, much as masks do.

    Args:
        max_tau: M, the largest count.
        rate: Mean before clipping, in units of ``M t``.
        spread: Standard deviation before clipping, in units of ``M t``; 0 gives every element the mean.

    Source: Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes (2025).
    """

    max_tau: int = 99
    rate: float = 2.0
    spread: float = 2.0

    def __post_init__(self) -> None:
        if self.max_tau < 1 or not 0 < self.rate < math.inf or not 0 <= self.spread < math.inf:
            raise ValueError(
                "max_tau, rate, spread: expected max_tau >= 1, rate > 0 and spread >= 0, "
                f"found {self.max_tau}, {self.rate} and {self.spread}."
            )

    def quantile(self, share: Float[Tensor, "n l"], t: Float[Tensor, " n"]) -> Int[Tensor, "n l"]:
        """The count below or at which this share of a row's elements lies; of uniform numbers, a draw.

        Args:
            share: Numbers in [0, 1).
            t: Time of each row, in [0, 1].

        Returns:
            int64 counts from 0 to M, increasing in ``share``.
        """
        mean = self.rate * self.max_tau * t.double().unsqueeze(1)
        cumulative = torch.special.gammaincc(self._counts(t.device) + 1.0, mean.clamp(min=1e-300))
        # Shares so near 1 that the table ends are the last count's.
        tau = torch.searchsorted(cumulative, share.double().contiguous(), right=True)
        return self._spread(tau.clamp(max=cumulative.shape[1] - 1).double(), mean).long()

    def law(self, t: Float[Tensor, " n"]) -> Float[Tensor, "n counts"]:
        """Probability of each count from 0 to M, float64."""
        mean = self.rate * self.max_tau * t.double().unsqueeze(1)
        counts = self._counts(t.device)
        log_p = counts * mean.clamp(min=1e-300).log() - mean - torch.lgamma(counts + 1)
        place = self._spread(counts.expand(len(t), -1), mean).long()
        law = torch.zeros(len(t), self.max_tau + 1, dtype=torch.float64, device=t.device)
        return law.scatter_add(1, place, log_p.exp())

    def _counts(self, device: torch.device) -> Tensor:
        """All counts that are likelier than 1e-15 at t = 1."""
        mean = self.rate * self.max_tau
        return torch.arange(math.ceil(mean + 10 * math.sqrt(mean)) + 20, dtype=torch.float64, device=device)

    def _spread(self, tau: Tensor, mean: Tensor) -> Tensor:
        wide = self.spread / self.rate * mean
        moved = (tau - mean) / mean.clamp(min=1e-300).sqrt() * wide + mean
        return moved.round().clamp(0, self.max_tau)
