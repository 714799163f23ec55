"""Diffusion posterior sampling as released: a plain step, then a step down the norm of the residual."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clarkia.operators import LinearOperator, Measurement
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.samplers.ddim import DDPM
from clarkia.samplers.solver import Evaluate, Staged, drawn, require, run


@dataclass(frozen=True, eq=False)
class DPS:
    """``x_s <- x_s - scale grad |y - A x0_hat(x_t)|`` after each step of a solver; the norm is not squared.

    The gradient is taken with respect to the noisy state, through the denoiser. The scale is a length in units of the
    state and goes with the number of steps: 0.3 to 1 for pictures from -1 to 1 in 1000 steps. The result is no draw of
    the posterior, whatever the number of steps; the squared form with the measured noise is ``guidance.linear``'s.

    Args:
        operator: ``A``.
        y: The measurement, or one a row.
        scale: The published zeta.
        solver: The plain step; DDPM's by default.

    Raises:
        ValueError: A negative scale; in use, a denoiser that cannot be differentiated.

    Source: Diffusion Posterior Sampling for General Noisy Inverse Problems (2023).
    """

    operator: LinearOperator
    y: Tensor
    scale: float = 1.0
    solver: Staged = field(default_factory=DDPM)
    _measurement: Measurement = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"scale: expected a non-negative number, found {self.scale}.")
        # The norm form knows nothing of the noise, so that any number will do.
        object.__setattr__(self, "_measurement", Measurement(self.operator, self.y, 1.0))

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Any:
        """The solver's carry."""
        require(process, Gaussian, "DPS")
        return self.solver.init(x, process, generator)

    def step(
        self, denoise: Evaluate, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[Tensor, Any]:
        """The solver's evaluations, the first of them with a backward pass."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            x0_hat = denoise(leaf, t)
            if not x0_hat.requires_grad:
                raise ValueError("denoiser: expected one that can be differentiated, found one without gradients.")
            gap = self._measurement.residual(x0_hat).flatten(1).norm(dim=1)
            (slope,) = torch.autograd.grad(gap.sum(), leaf)
        known = x0_hat.detach()

        def evaluate(state: Any, time: Any) -> Any:
            return known if state is x else denoise(state, time)

        outcome, carry = run(self.solver.stages(process, x, t, s, carry, generator), evaluate)
        moving = spread(s, x) < spread(t, x)
        return drawn(outcome, generator) - torch.where(moving, self.scale * slope, 0.0), carry
