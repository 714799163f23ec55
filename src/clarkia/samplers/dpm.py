"""DPM-Solver++: exponential integrators in data prediction, multistep and single-step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel, spread
from clarkia.processes.times import unspread
from clarkia.random import Noise
from clarkia.samplers.exponential import REACH, Node, exponential_step
from clarkia.samplers.solver import Staged, Stages, require, settled


@dataclass(frozen=True)
class DPMSolverPP(Staged):
    """Multistep: one evaluation a step, the predictions of the last ``order`` steps interpolated in lambda.

    Args:
        order: 1 (DDIM, or DDPM at stochasticity 1), 2 (2M) or 3 (3M). The first steps have the order that their history
            allows; a step to or from infinite lambda has order 1.
        stochasticity: 0 the probability-flow equation, 1 the reverse diffusion, any non-negative number.
        variant: None does best in few steps: with two nodes the usual midpoint, with three the exact integral, in steps
            too long for that (see `exponential.REACH`) two of them; ``"exact"`` integrates every interpolation exactly;
            ``"published"`` is the usual 3M, whose last coefficient is half of what it should be, which makes it order
            2.

    Source: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (2022).
    """

    order: int = 2
    stochasticity: float = 0.0
    variant: Literal["exact", "published"] | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order: expected 1, 2 or 3, found {self.order}.")
        check_stochasticity(self.stochasticity)
        if self.variant not in (None, "exact", "published"):
            raise ValueError(f"variant: expected None, 'exact' or 'published', found {self.variant!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> tuple[Node, ...]:
        """No history yet."""
        require(process, Gaussian, "DPMSolverPP")
        return ()

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: tuple[Node, ...], generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        x0_hat = yield x, t
        nodes = ((x0_hat, t), *carry)
        how = ("midpoint", REACH) if self.variant is None else (self.variant, math.inf)
        kernel = exponential_step(process, x, t, s, nodes, self.stochasticity, *how)
        return settled(kernel, self.stochasticity), nodes[: self.order - 1]


@dataclass(frozen=True)
class DPMSolverPPSinglestep(Staged):
    """Single-step: ``order`` evaluations a step and no history.

    A stochastic step goes deterministically below its target, to ``kappa_s (kappa_s / kappa_t)^eta``, and adds the
    noise that is missing; that keeps the order of the deterministic step.

    Args:
        order: 2 (2S) or 3 (3S).
        stochasticity: 0 the probability-flow equation, 1 the share of noise of the reverse diffusion.
        variant: None integrates the interpolation exactly; ``"midpoint"`` is the usual shortcut of 2S.

    Source: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (2022).
    """

    order: int = 2
    stochasticity: float = 0.0
    variant: Literal["midpoint"] | None = None

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"order: expected 2 or 3, found {self.order}.")
        check_stochasticity(self.stochasticity)
        if self.variant not in (None, "midpoint"):
            raise ValueError(f"variant: expected None or 'midpoint', found {self.variant!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "DPMSolverPPSinglestep")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """Predictions at the start and at one or two times inside the step."""
        below = self._below(process, x, t, s)
        current = ((yield x, t), t)
        nodes = [current]
        for fraction in (0.5,) if self.order == 2 else (1 / 3, 2 / 3):
            inside = _between(process, x, t, below, fraction)
            if inside is None:  # every step has an end at infinity, where the order is 1
                break
            place = exponential_step(process, x, t, inside, nodes).mean
            nodes = [current, ((yield place, inside), inside)]
        end = exponential_step(process, x, t, below, nodes, variant=self.variant or "exact").mean
        if self.stochasticity == 0:
            return end, None
        clean, lower = spread(s, x), spread(below, x)
        std = process.step_weights(spread(t, x), clean, eta=self.stochasticity)[2]
        rescale = torch.where(lower < clean, process.alpha(clean) / process.alpha(lower), 1.0)
        return GaussianKernel(rescale.to(x.dtype) * end, std.to(x.dtype)), None

    def _below(self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The time that the deterministic part goes to."""
        if self.stochasticity == 0:
            return s
        start, end = spread(t, x), spread(s, x)
        kappa_t, kappa_s = process.kappa(start), process.kappa(end)
        proper = (end < start) & (kappa_s > 0) & kappa_t.isfinite()
        ratio = kappa_s / torch.where(proper, kappa_t, 1.0)
        lower = process.t_of_kappa(torch.where(proper, kappa_s * ratio**self.stochasticity, kappa_s))
        # From alpha = 0 the share of noise is 1: nothing of the state is left but its prediction.
        lower = torch.where(proper, lower, torch.where((end < start) & kappa_t.isinf(), torch.zeros_like(end), end))
        return unspread(lower, x)


def check_stochasticity(value: float) -> None:
    """Raise ``ValueError`` unless a stochasticity is a non-negative number."""
    if not value >= 0:
        raise ValueError(f"stochasticity: expected a non-negative number, found {value}.")


def _between(process: Gaussian, x: Tensor, t: Tensor, s: Tensor, fraction: float) -> Tensor | None:
    """The time at a fraction of a step in lambda; t itself where an end is at infinity, None if that is everywhere."""
    alpha, sigma = process.scales(x, t, s)
    proper = (alpha[0] > 0) & (sigma[1] > 0) & (alpha[0] * sigma[1] < alpha[1] * sigma[0])
    if not proper.any():
        return None
    first, last = np.where(proper, sigma, 1.0) / np.where(proper, alpha, 1.0)
    inside = process.t_of_kappa(torch.as_tensor(first ** (1 - fraction) * last**fraction, device=x.device))
    return unspread(torch.where(torch.as_tensor(proper, device=x.device), inside, spread(t, x)), x)
