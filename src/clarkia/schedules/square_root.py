"""The noise schedule of text embeddings, which are clean only where there is next to no noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SquareRootVP:
    """``alpha^2 = 1 - sqrt(t + offset)``, held above ``least``: noise grows fast at first, for tokens stay readable.

    It starts at ``sigma = offset^(1/4)``, 0.1 with the defaults; a process takes t = 0 itself as clean.

    Args:
        offset: Moves the start.
        least: Least ``alpha^2``, which bounds the signal at t = 1 where the root passes 1.

    Source: Diffusion-LM Improves Controllable Text Generation (2022).
    """

    offset: float = 1e-4
    least: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 < self.offset < 1 and 0 < self.least < 1):
            raise ValueError(f"offset, least: expected numbers in (0, 1), found {self.offset}, {self.least}.")

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale, 1 at t = 0 itself."""
        return torch.where(t > 0, (1 - self._root(t)).clamp(min=self.least).sqrt(), 1.0)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale, 0 at t = 0 itself."""
        return torch.where(t > 0, self._root(t).clamp(max=1 - self.least).sqrt(), 0.0)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale for t > 0."""
        return torch.where(self._held(t), 0.0, -0.25 / (self._root(t) * self.alpha(t)))

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale for t > 0."""
        return torch.where(self._held(t), 0.0, 0.25 * self._root(t) ** -1.5)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``, 0 below the least and above 1 beyond the largest."""
        share = 1 / (1 + 1 / kappa**2)  # sigma^2
        return (share**2 - self.offset).clamp(min=0)

    def _root(self, t: Tensor) -> Tensor:
        return (t + self.offset).sqrt()

    def _held(self, t: Tensor) -> Tensor:
        return self._root(t) > 1 - self.least
