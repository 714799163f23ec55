"""The evidence lower bound of a few categories with nothing drawn: every noisy state, Gauss-Legendre in time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.discrete import (
    cross_entropy,
    least_time,
    prior_divergence,
    rate_divergence,
    step_divergence,
)
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.result import Likelihood, certain
from clarkia.processes import Discrete, Masked, spread

MAX_STATES = 65_536
"""Noisy states a row beyond which enumeration is refused."""


@torch.no_grad()
def enumerated_elbo(
    denoiser: Denoiser,
    process: Discrete,
    x: Int[Tensor, "n ..."],
    *,
    num_steps: int | None = None,
    num_nodes: int = 64,
) -> Likelihood:
    """The bound of each row as a sum over all noisy states: ``2^L`` masks, or all classes of all L cells.

    Args:
        denoiser: Called once a node of time, with all noisy states of all rows.
        process: Masked, or a mixture path.
        x: Clean classes, ``(n, ...)``.
        num_steps: None for continuous time, or T for the sampler with T steps on an even grid of times.
        num_nodes: Gauss-Legendre nodes of the former, over ``sqrt(t)``. For a linear mask and a denoiser that ignores
            time the integral is exact from L nodes on.

    Returns:
        Nats, with no error but that of the nodes.

    Raises:
        ValueError: Data that do not fit the process, a wrong argument, or more than 65,536 noisy states a row.
    """
    if not isinstance(process, Discrete):
        raise ValueError(f"process: expected a discrete process, found {type(process).__name__}.")
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1 or None, found {num_steps}.")
    if num_nodes < 1:
        raise ValueError(f"num_nodes: expected at least 1, found {num_nodes}.")
    check_data(process, x)
    states = _NoisyStates(denoiser, process, x)
    prior = prior_divergence(process, x)
    if num_steps is not None:
        return certain(-prior - _all_steps(states, schedules.uniform(num_steps)), "T-step bound")
    return certain(-prior - _all_times(states, num_nodes), "bound")


class _NoisyStates:
    """Every state that noise can make of each row."""

    def __init__(self, denoiser: Denoiser, process: Discrete, x: Tensor) -> None:
        self.denoiser, self.process = denoiser, process
        cells = x[0].numel()
        counts = process.counts().expand(x.shape[1:]).reshape(-1).tolist()
        choices = [2] * cells if isinstance(process, Masked) else counts
        self.per_row = math.prod(choices)
        if self.per_row > MAX_STATES:
            raise ValueError(f"x: expected at most {MAX_STATES} noisy states a row, found {self.per_row}.")
        axes = torch.meshgrid(*(torch.arange(choice, device=x.device) for choice in choices), indexing="ij")
        every = torch.stack([axis.flatten() for axis in axes], -1).reshape(self.per_row, *x.shape[1:])
        shape = (len(x), self.per_row, *x.shape[1:])
        self.clean = x.unsqueeze(1).expand(shape).flatten(0, 1)
        self.noisy = every.expand(shape).flatten(0, 1)
        if isinstance(process, Masked):
            self.noisy = torch.where(self.noisy == 1, process.mask_state(x.device), self.clean)
        pi = process.noise_probs(x.device).expand(*self.noisy.shape, -1)
        self.noise_probs = pi.gather(-1, self.noisy.unsqueeze(-1)).squeeze(-1)

    def mean(self, t: float, loss: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, " n"]:
        """Expected ``loss(log_probs, t)`` of each row under ``q(x_t | x)``."""
        time = torch.full((len(self.noisy),), t, dtype=torch.float64, device=self.noisy.device)
        alpha = self.process.alpha(spread(time, self.noisy)).double()
        q = alpha * (self.noisy == self.clean) + (1 - alpha) * self.noise_probs
        chance = q.reshape(len(q), -1).prod(1)
        log_probs = predict(self.denoiser, self.process, self.noisy, time)
        losses = torch.where(chance > 0, loss(log_probs, time), 0.0)
        return (chance * losses).reshape(-1, self.per_row).sum(1)


def _all_steps(states: _NoisyStates, grid: Tensor) -> Float[Tensor, " n"]:
    total = torch.zeros((), dtype=torch.float64)
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):

        def loss(log_probs: Tensor, time: Tensor, s: float = s) -> Tensor:
            end = torch.full_like(time, s)
            return step_divergence(states.process, states.clean, states.noisy, log_probs, time, end)

        total = total + states.mean(t, loss)
    return total


def _all_times(states: _NoisyStates, num_nodes: int) -> Float[Tensor, " n"]:
    def rate(log_probs: Tensor, time: Tensor) -> Tensor:
        return rate_divergence(states.process, states.clean, states.noisy, log_probs, time)

    least = least_time(states.process)
    root = math.sqrt(least)
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    total = states.mean(least, lambda log_probs, time: cross_entropy(states.clean, log_probs))
    for v, weight in zip(root + 0.5 * (1 - root) * (nodes + 1), 0.5 * (1 - root) * weights, strict=True):
        total = total + 2 * v * weight * states.mean(float(v**2), rate)
    return total
