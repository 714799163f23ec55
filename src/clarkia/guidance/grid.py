"""What guidance may ask of noise levels and of the grid that will be walked."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Gaussian
from clarkia.schedules import check_times


def noise_interval(process: Gaussian, low: float = 0.0, high: float = math.inf) -> tuple[float, float]:
    """The times between which ``sigma / alpha`` lies between two levels: an ``interval`` for `classifier_free`.

    Args:
        process: A Gaussian process with one schedule for all elements.
        low: Least noise-to-signal ratio; 0.3 is a published choice for data of unit scale.
        high: Largest one, 3 in the same choice; may be infinite.

    Returns:
        Two times in [0, 1].

    Raises:
        ValueError: Levels out of order, or negative.

    Source: Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models (2024).
    """
    if not 0 <= low <= high:
        raise ValueError(f"low, high: expected 0 <= low <= high, found {low} and {high}.")

    def time(kappa: float) -> float:
        if kappa in (0.0, math.inf):
            return 0.0 if kappa == 0 else 1.0
        with torch.no_grad():
            return float(process.t_of_kappa(torch.tensor([kappa], dtype=torch.float64)).clamp(0, 1))

    return time(low), time(high)


def step_at(times: Float[Tensor, " nodes"]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The function from a time to the step of a grid that starts there.

    Args:
        times: The grid that will be walked, ``(steps + 1,)``, decreasing.

    Returns:
        ``t -> (start, end)`` for times of any shape, float64: the node nearest to t, whatever precision t comes in,
        and the node after it; the last node is followed by itself.

    Raises:
        ValueError: No such grid.
    """
    times = check_times(times)
    if times.ndim != 1:
        raise ValueError(f"times: expected one grid for all rows, found shape {tuple(times.shape)}.")
    rising = times.flip(0)
    middles = 0.5 * (rising[1:] + rising[:-1])

    def step(t: Tensor) -> tuple[Tensor, Tensor]:
        place = torch.bucketize(t.detach().double().contiguous(), middles.to(t.device))
        nodes = rising.to(t.device)
        return nodes[place], nodes[(place - 1).clamp(min=0)]

    return step


def plus_plus_scale(
    process: Gaussian, times: Float[Tensor, " nodes"], scale: float
) -> Callable[[Tensor], Float[Tensor, "..."]]:
    """The scale over time at which plain guidance of DDIM's steps is CFG++'s.

    CFG++ denoises with ``D_u + lambda (D_c - D_u)`` and adds the unconditional noise again. That is guidance with the
    weight ``lambda / (1 - kappa_s / kappa_t)`` in the step from t to s, a number that grows with the number of steps:
    the method has no limit of small steps, and ``lambda`` means something only together with their number.

    Args:
        process: The process that will be sampled.
        times: The grid that will be walked, ``(steps + 1,)``.
        scale: ``lambda``, from 0 (unconditional) to 1.

    Returns:
        The scale for `classifier_free` (its weight of the condition less 1) as a function of time.

    Raises:
        ValueError: A scale outside [0, 1].

    Source: CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models (2024).
    """
    if not 0 <= scale <= 1:
        raise ValueError(f"scale: expected a number from 0 to 1, found {scale}.")
    step = step_at(times)

    def weight_less_one(t: Tensor) -> Tensor:
        start, end = step(t)
        # kappa_end / kappa_start as a ratio of products, which stays finite where alpha is 0
        low, high = process.sigma(end) * process.alpha(start), process.sigma(start) * process.alpha(end)
        moving = high > low
        return torch.where(moving, scale * high / torch.where(moving, high - low, 1.0), 1.0) - 1

    return weight_less_one
