"""DPM-Solver++, the multistep exponential integrator in data prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.random import Noise, randn
from clarkia.samplers.solver import Staged, Stages, require

History: TypeAlias = tuple[Tensor, Tensor] | None
"""The previous prediction and its time."""


@dataclass(frozen=True)
class DPMSolverPP(Staged):
    """One evaluation a step; order 2 extrapolates the prediction linearly in ``lambda = log(alpha / sigma)``.

    Args:
        order: 1 (DDIM, or DDPM at stochasticity 1) or 2 (2M).
        stochasticity: 0 the probability-flow equation, 1 the reverse diffusion, any value between or beyond.
        variant: None integrates the extrapolation exactly; ``"midpoint"`` is the published shortcut.

    Source: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (2022).
    """

    order: int = 2
    stochasticity: float = 0.0
    variant: Literal["midpoint"] | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order: expected 1 or 2, found {self.order}.")
        if self.stochasticity < 0:
            raise ValueError(f"stochasticity: expected a non-negative number, found {self.stochasticity}.")
        if self.variant not in (None, "midpoint"):
            raise ValueError(f"variant: expected None or 'midpoint', found {self.variant!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> History:
        """No history yet."""
        require(process, Gaussian, "DPMSolverPP")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: History, generator: Noise = None
    ) -> Stages:
        """One evaluation, the step of order 1, and a term from the previous prediction."""
        x0_hat = yield x, t
        end = spread(s, x)
        kernel = process.kernel(x, x0_hat, t, s, eta=self.stochasticity)
        x_s = kernel.mean
        if self.order == 2 and carry is not None:
            previous, t_previous = carry
            weight = self._slope_weight(process, spread(t_previous, x), spread(t, x), end)
            x_s = x_s + weight.to(x.dtype) * (x0_hat - previous)
        if self.stochasticity > 0:
            x_s = x_s + kernel.std * randn(x.shape, generator, dtype=x.dtype, device=x.device)
        return x_s, (x0_hat, t) if self.order == 2 else None

    def _slope_weight(self, process: Gaussian, t_previous: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Weight of ``x0_hat - previous``: ``alpha_s I_1(c) / r``, ``c = (1 + eta) h``, ``r`` the ratio of steps.

        ``I_0 = 1 - e^-c`` and ``I_1 = 1 - I_0 / c``. Nodes at infinite lambda (alpha = 0, sigma = 0) drop out.
        """
        previous, current, target = (process.log_snr(time) / 2 for time in (t_previous, t, s))
        live = previous.isfinite() & current.isfinite() & target.isfinite() & (s < t) & (t < t_previous)
        h = torch.where(live, target - current, 1.0)
        c = (1 + self.stochasticity) * h
        first = -torch.expm1(-c)
        second = 0.5 * first if self.variant == "midpoint" else 1 - first / c
        return torch.where(live, process.alpha(s) * second * h / torch.where(live, current - previous, 1.0), 0.0)
