"""Predictor-corrector solvers that need no further evaluation: UniPC and the stochastic Adams solver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel
from clarkia.processes.times import unspread
from clarkia.random import Noise
from clarkia.samplers.dpm import check_stochasticity
from clarkia.samplers.exponential import REACH, Node, Variant, exponential_step, lean
from clarkia.samplers.solver import Staged, Stages, require, settled

Carry: TypeAlias = tuple[Tensor, Tensor, Tensor, float | Tensor, tuple[Node, ...]] | None
"""Of the step before: the corrected state it left, its time, the mean it predicted, its eta, and the predictions."""


@dataclass(frozen=True)
class UniPC(Staged):
    """Each step is taken again once the prediction at its end is known, which raises the order by one.

    The state between two steps is the predicted one; the next step's evaluation corrects it before it goes on. The
    prediction made at the predicted state stays in the history, so a step costs one evaluation. The last step of a run
    is not corrected.

    Args:
        order: Nodes of the predictor, 1 to 4; the corrector has one more and the method that order.
        stochasticity: 0 the probability-flow equation, 1 the reverse diffusion, any non-negative number.
        variant: None takes the published shortcut ("bh2") where two nodes are known and leaves nodes out of a predictor
            that would extrapolate too far (see `exponential.REACH`), both closer in few steps; ``"bh2"`` and ``"bh1"``
            are the published shortcuts alone; ``"exact"`` integrates every interpolation exactly.

    Source: UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models (2023).
    """

    order: int = 2
    stochasticity: float = 0.0
    variant: Literal["bh2", "bh1", "exact"] | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"order: expected 1 to 4, found {self.order}.")
        check_stochasticity(self.stochasticity)
        if self.variant not in (None, "bh2", "bh1", "exact"):
            raise ValueError(f"variant: expected None, 'bh2', 'bh1' or 'exact', found {self.variant!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Carry:
        """No step before."""
        require(process, Gaussian, "UniPC")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Carry, generator: Noise = None
    ) -> Stages:
        """One evaluation, which corrects the step before and predicts this one."""
        x0_hat = yield x, t
        reach = REACH if self.variant is None else math.inf
        variant = "midpoint" if self.variant in (None, "bh2") else self.variant
        return _predict(process, x, t, s, carry, x0_hat, (self.order, self.order), self.stochasticity, variant, reach)


@dataclass(frozen=True)
class SASolver(Staged):
    """The stochastic Adams solver: UniPC's scheme on the reverse diffusion, with noise where it does good.

    Args:
        predictor_order: Nodes of the predictor, 1 to 4.
        corrector_order: Nodes of the corrector, the new one included, 1 to 4.
        tau: Strength of the noise; the stochasticity is ``tau^2``.
        noisy: Interval of ``sigma / alpha`` in which a step is stochastic.

    Source: SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models (2023).
    """

    predictor_order: int = 3
    corrector_order: int = 4
    tau: float = 1.0
    noisy: tuple[float, float] = (0.05, 1.0)

    def __post_init__(self) -> None:
        for name in ("predictor_order", "corrector_order"):
            if getattr(self, name) not in (1, 2, 3, 4):
                raise ValueError(f"{name}: expected 1 to 4, found {getattr(self, name)}.")
        if not (self.tau >= 0 and math.isfinite(self.tau)):
            raise ValueError(f"tau: expected a non-negative number, found {self.tau}.")
        if not 0 <= self.noisy[0] <= self.noisy[1]:
            raise ValueError(f"noisy: expected an interval of non-negative numbers, found {self.noisy}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Carry:
        """No step before."""
        require(process, Gaussian, "SASolver")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: Carry, generator: Noise = None
    ) -> Stages:
        """One evaluation, which corrects the step before and predicts this one."""
        x0_hat = yield x, t
        alpha, sigma = process.scales(x, t)
        inside = (sigma >= self.noisy[0] * alpha) & (sigma <= self.noisy[1] * alpha)
        strength = np.where(inside, self.tau**2, 0.0)[0]
        eta = lean(strength)
        eta = eta if isinstance(eta, float) else unspread(torch.as_tensor(eta, device=x.device), x)
        return _predict(process, x, t, s, carry, x0_hat, (self.predictor_order, self.corrector_order - 1), eta)


def _predict(
    process: Gaussian,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    carry: Carry,
    x0_hat: Tensor,
    orders: tuple[int, int],
    eta: float | Tensor,
    variant: Variant = "exact",
    reach: float = math.inf,
) -> tuple[Tensor | GaussianKernel, Carry]:
    """Correct the state at t with the prediction there, then predict the state at s.

    Args:
        process: The Gaussian process.
        x: State at t as the step before predicted it.
        t: Its time.
        s: Time to go to.
        carry: The step before.
        x0_hat: The prediction at ``x``.
        orders: Nodes of the predictor, and nodes of the corrector beside the new one.
        eta: Stochasticity of this step, a number or times' shape.
        variant: As `exponential_weights`.
        reach: As `exponential_weights`, of the predictor.
    """
    nodes: tuple[Node, ...] = ((x0_hat, t),)
    if carry is not None:
        before, t_before, predicted, eta_before, history = carry
        known = (*history[: orders[1]], (x0_hat, t))
        corrected = exponential_step(process, before, t_before, t, known, eta_before, variant)
        x = corrected.mean + (x - predicted)  # the same noise as was drawn for the prediction
        nodes = ((x0_hat, t), *history)
    kernel = exponential_step(process, x, t, s, nodes[: orders[0]], eta, variant, reach)
    return settled(kernel, eta), (x, t, kernel.mean, eta, nodes[: max(orders)])
