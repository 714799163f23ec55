"""How much of the best possible control is reached: the cost of a controlled chain beside the least there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.alignment.chains import Changed, chain
from clarkia.alignment.control import Control, as_controls, log_factor, with_labels
from clarkia.processes import Discrete, Gaussian
from clarkia.random import Noise
from clarkia.schedules import check_times


@dataclass(frozen=True)
class ControlGap:
    """What the chains of a controlled denoiser cost.

    Attributes:
        loss: ``E[sum KL - gamma log p(y | x_0)]``, nats.
        loss_error: Its standard error.
        log_z: ``log E[p(y | x_0)^gamma]`` under the frozen chain of the same grid, from the same draws.
        log_z_error: Its standard error.
        effective: Effective share of the draws as weighted ones of the target, in (0, 1]; where it is small, ``log_z``
            is not to be trusted.
        judged: Mean probability that the held-out classifier gives to the labels; None without one. Where it falls
            while the loss does too, the classifier is exploited.
    """

    loss: float
    loss_error: float
    log_z: float
    log_z_error: float
    effective: float
    judged: float | None = None

    @property
    def gap(self) -> float:
        """Divergence from the controlled law of chains to the target's, nats: 0 for perfect control."""
        return self.loss + self.log_z


@torch.no_grad()
def control_gap(
    denoiser: Changed,
    process: Gaussian | Discrete,
    controls: Control | Sequence[Control],
    labels: int | Sequence[int],
    *,
    shape: Sequence[int],
    times: Float[Tensor, " nodes"],
    num_samples: int = 4096,
    condition: Any = None,
    held_out: Sequence[Control] | Control | None = None,
    generator: Noise = None,
) -> ControlGap:
    """Compare the cost of control with its lower bound ``-log Z``, from one set of chains.

    Chains of the controlled denoiser carry the weights ``p(y | x_0)^gamma k_0 / k``, whose mean is Z and the mean of
    whose logarithm is minus the cost, so that both sides of the bound come from the same draws.

    Args:
        denoiser: Anything that knows both answers, such as `Controlled` or a guided denoiser.
        process: Its process.
        controls: What the labels mean.
        labels: The label of each control.
        shape: Shape of one data point.
        times: Decreasing grid.
        num_samples: Chains.
        condition: A condition for all of them, with a row each where it is of tensors.
        held_out: Classifiers that training has not seen, one a control.
        generator: Source of randomness.

    Raises:
        ValueError: Another number of labels than of controls, or one out of range.

    Source: Adding Conditional Control to Diffusion Models with Reinforcement Learning (2024).
    """
    controls, times = as_controls(controls), check_times(times)
    wanted = torch.as_tensor([labels] if isinstance(labels, int) else list(labels))
    if len(wanted) != len(controls) or any(
        not 0 <= int(y) < c.num_labels for y, c in zip(wanted, controls, strict=False)
    ):
        counts = [control.num_labels for control in controls]
        raise ValueError(f"labels: expected one below each of {counts}, found {wanted.tolist()}.")
    x = process.prior(num_samples, tuple(shape), generator=generator)
    rows = wanted.expand(num_samples, -1)
    cost = torch.zeros(num_samples, dtype=torch.float64)
    log_weight = torch.zeros(num_samples, dtype=torch.float64)
    for step in chain(denoiser, process, x, times, with_labels(condition, rows), generator=generator):
        cost += step.kl()
        log_weight += step.frozen.log_prob(step.x) - step.law.log_prob(step.x)
        x = step.x
    factor = log_factor(controls, x, rows, condition)
    cost, log_weight = cost - factor, log_weight + factor
    log_z, log_z_error, effective = _log_mean(log_weight)
    judged = None
    if held_out is not None:
        judges = [replace(judge, gamma=1.0, floor=-torch.inf) for judge in as_controls(held_out)]
        judged = float(log_factor(judges, x, rows, condition).exp().mean())
    error = float(cost.std()) * num_samples**-0.5
    return ControlGap(float(cost.mean()), error, log_z, log_z_error, effective, judged)


def _log_mean(log_weight: Float[Tensor, " n"]) -> tuple[float, float, float]:
    """The logarithm of the mean of weights, its standard error, and the weights' effective share."""
    n = len(log_weight)
    log_z = float(log_weight.logsumexp(0)) - torch.log(torch.tensor(float(n), dtype=torch.float64)).item()
    weight = (log_weight - log_z).exp()
    return log_z, float(weight.std()) * n**-0.5, float(weight.sum() ** 2 / weight.square().sum()) / n
