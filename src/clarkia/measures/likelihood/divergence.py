"""Divergence of a vector field by automatic differentiation: every axis, or random signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.random import Noise, rand


@dataclass(frozen=True, eq=False)
class Divergence:
    """Directions along which a field is differentiated, one backward pass each.

    Attributes:
        directions: ``(p, n, ...)``.
        exact: The directions are all the axes: their derivatives add up to the divergence. Otherwise each one's
            derivative is an estimate of it.
    """

    directions: Float[Tensor, "p n ..."]
    exact: bool

    @classmethod
    def along_axes(cls, x: Float[Tensor, "n ..."]) -> Divergence:
        """The exact divergence at states like ``x``."""
        axes = torch.eye(x[0].numel(), dtype=torch.float64, device=x.device)
        return cls(axes.reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape), exact=True)

    @classmethod
    def along_signs(cls, x: Float[Tensor, "n ..."], num_probes: int, generator: Noise = None) -> Divergence:
        """Hutchinson's estimate with ``num_probes`` directions of random signs a row."""
        uniforms = rand((len(x), num_probes, *x.shape[1:]), generator, device=x.device)
        return cls(torch.where(uniforms < 0.5, -1.0, 1.0).double().transpose(0, 1), exact=False)

    @property
    def columns(self) -> int:
        """How many numbers a row the divergence is: one, or one a probe."""
        return 1 if self.exact else len(self.directions)

    def of(
        self, field: Callable[[Tensor], Tensor], x: Float[Tensor, "k ..."], rows: Tensor
    ) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "k c"]]:
        """Value and divergence of ``field`` at the states ``x`` of these rows.

        Args:
            field: Maps ``(k, ...)`` to the same shape, each row on its own.
            x: float64 states.
            rows: ``(k,)``, which rows of the batch they belong to.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = field(x)
            derivatives = [_along(value, x, direction[rows]) for direction in self.directions]
        derivative = torch.stack(derivatives, 1)
        return value.detach(), derivative.sum(1, keepdim=True) if self.exact else derivative


def _along(value: Tensor, x: Tensor, direction: Tensor) -> Float[Tensor, " k"]:
    """``direction . J direction``, a row."""
    (gradient,) = torch.autograd.grad(value, x, direction, retain_graph=True)
    return (gradient * direction).reshape(len(x), -1).sum(1)
