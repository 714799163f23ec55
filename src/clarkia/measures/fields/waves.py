"""Smooth test functions with known derivatives: plane waves, and the squares that normal laws need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clarkia.random import rand, randn


@dataclass(frozen=True, eq=False)
class Waves:
    """The functions ``psi_k(x) = cos(omega_k . x + b_k)``.

    Args:
        frequencies: float64 ``(m, d)``.
        phases: float64 ``(m,)``.
    """

    frequencies: Tensor
    phases: Tensor

    def along(self, x: Tensor, field: Tensor) -> Tensor:
        """``field . grad psi_k`` at every point, ``(n, m)``."""
        return -torch.sin(self._angle(x)) * (field @ self.frequencies.T)

    def laplacian(self, x: Tensor) -> Tensor:
        """``lap psi_k`` at every point, ``(n, m)``."""
        return -torch.cos(self._angle(x)) * self.frequencies.square().sum(1)

    def gradients(self, x: Tensor) -> Tensor:
        """``grad psi_k`` at every point, ``(n, m, d)``."""
        return -torch.sin(self._angle(x)).unsqueeze(2) * self.frequencies

    def _angle(self, x: Tensor) -> Tensor:
        return x @ self.frequencies.T + self.phases


def draw_waves(
    x: Tensor, count: int, bandwidth: float, generator: torch.Generator | None = None, *, scales: int = 1
) -> Waves:
    """Waves whose length is of the order of ``bandwidth`` times the spread of points ``(n, d)``.

    With several scales, equal shares of the waves are 1, 2, 4, ... times as short.
    """
    spread = float(x.var(0).sum().sqrt())
    length = bandwidth * (spread if spread > 0 else 1.0)
    octave = 2.0 ** (torch.arange(count, dtype=torch.float64) % scales).unsqueeze(1)
    frequencies = randn((count, x.shape[1]), generator, dtype=torch.float64) * octave / length
    phases = 2 * torch.pi * rand((count,), generator)
    return Waves(frequencies.to(x.device), phases.to(x.device))


def polynomial_gradients(x: Tensor, *, products: int = 16) -> Tensor:
    """Gradients of ``x_i``, ``x_i^2 / 2`` and, up to so many columns, ``x_i x_j``: ``(n, functions, d)``."""
    n, d = x.shape
    unit = torch.eye(d, dtype=x.dtype, device=x.device)
    squares = x.unsqueeze(2) * unit
    parts = [unit.expand(n, d, d), squares]
    if d <= products:
        i, j = torch.triu_indices(d, d, 1)
        parts.append(x[:, i, None] * unit[j] + x[:, j, None] * unit[i])
    return torch.cat(parts, 1)
