"""A variance-preserving schedule given by its values at some levels, as networks of whole timesteps are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TabulatedVP:
    """``alpha = cos(angle)``, ``sigma = sin(angle)`` with an angle that is linear between the levels of a table.

    Level k of N, counted from 0 for the least noise, stands at time ``(k + 1) / N``; at time 0 the angle is 0. A last
    level without signal is as good as any.

    Args:
        angles: float64 ``(N + 1,)``, rising from 0 to at most pi / 2.

    Raises:
        ValueError: Fewer than two angles, or some that do not rise from 0 to at most pi / 2.
    """

    angles: Float[Tensor, " levels"]

    def __post_init__(self) -> None:
        angles = self.angles
        sound = angles.ndim == 1 and len(angles) > 1 and bool(angles.isfinite().all())
        if not sound or angles[0] != 0 or not bool((angles.diff() > 0).all()) or angles[-1] > torch.pi / 2:
            raise ValueError("angles: expected at least two that rise from 0 to at most pi / 2, found others.")

    @classmethod
    def from_signal(cls, alpha_squared: Sequence[float] | Tensor) -> TabulatedVP:
        """The schedule whose squared signal scale at levels 0, 1, ... is given, as ``alphas_cumprod`` in diffusers.

        Raises:
            ValueError: Values outside [0, 1), or some that do not fall.
        """
        values = torch.as_tensor(alpha_squared, dtype=torch.float64).cpu()
        if values.ndim != 1 or not bool(((values >= 0) & (values < 1)).all()) or not bool((values.diff() < 0).all()):
            raise ValueError("alpha_squared: expected a list of numbers that fall within [0, 1), found another.")
        angle = torch.atan2((1 - values).sqrt(), values.sqrt())
        return cls(torch.cat([angle.new_zeros(1), angle]))

    @property
    def num_levels(self) -> int:
        """Number of levels N."""
        return len(self.angles) - 1

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""
        angle = self._angle(t)
        return torch.where(angle < torch.pi / 2, torch.cos(angle), 0.0)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""
        return torch.sin(self._angle(t))

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale; at a level that of the piece below it."""
        return -torch.sin(self._angle(t)) * self._slope(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale; at a level that of the piece below it."""
        return torch.cos(self._angle(t)) * self._slope(t)

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``, above 1 beyond the last level."""
        angle, table = torch.atan(kappa), self.angles.to(kappa)
        piece = torch.searchsorted(table, angle.contiguous()).clamp(1, self.num_levels) - 1
        share = (angle - table[piece]) / (table[piece + 1] - table[piece])
        return (piece + share) / self.num_levels

    def _piece(self, t: Tensor) -> tuple[Tensor, Tensor]:
        place = t * self.num_levels
        piece = (place.ceil() - 1).clamp(0, self.num_levels - 1).long()
        return piece, place - piece

    def _angle(self, t: Tensor) -> Tensor:
        piece, share = self._piece(t)
        table = self.angles.to(t)
        return table[piece] + share * (table[piece + 1] - table[piece])

    def _slope(self, t: Tensor) -> Tensor:
        piece, _ = self._piece(t)
        return self.angles.diff().to(t)[piece] * self.num_levels
