"""A running average that is right from its first value on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningAverage(nn.Module):
    """Exponential average of values given one after another, freed of its start.

    ``mass`` is the share of the weights that values have had so far; divided by it the average is unbiased from the
    first value on. It is saved with the module it is part of, and never trained.

    Args:
        initial: What it is before any value, and its shape.
        rate: Share of a new value, in (0, 1].
        count_initial: Let the initial value count as all that went before, as an average without correction does.
    """

    total: Tensor
    mass: Tensor
    initial: Tensor

    def __init__(self, initial: Tensor, rate: float, *, count_initial: bool = False) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate: expected a share in (0, 1], found {rate!r}.")
        self.rate = rate
        start = initial.detach().double()
        self.register_buffer("initial", start.clone())
        self.register_buffer("total", start.clone() if count_initial else torch.zeros_like(start))
        self.register_buffer("mass", torch.full_like(start, float(count_initial)))

    def forward(self) -> Tensor:
        """The average, float64, of the shape of the initial value."""
        return torch.where(self.mass > 0, self.total / self.mass.where(self.mass > 0, 1.0), self.initial)

    @torch.no_grad()
    def update(self, values: Tensor, where: Tensor | None = None) -> None:
        """Take in new values where a mask, broadcastable against them, is true (everywhere for None)."""
        rate = torch.full_like(self.mass, self.rate) if where is None else self.rate * where.to(self.mass)
        self.total.lerp_(values.to(self.total), rate.expand_as(self.total))
        self.mass.lerp_(torch.ones_like(self.mass), rate.expand_as(self.mass))
