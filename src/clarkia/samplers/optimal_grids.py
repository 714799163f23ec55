"""Time grids that minimise a bound on the error of sampling with one denoiser, from its own answers on data.

Over a step from level ``lambda_i = log(alpha / sigma)`` to the next, the first-order stochastic sampler (`DDPM`) holds
the prediction at ``D(x_i)``. By Girsanov's theorem the divergence of its path law from that of the reverse diffusion is

    KLUB = sum over steps of  integral of e^(2 lambda) E |D(x_lambda) - D(x_i)|^2 d lambda,

the expectation over paths of the forward process. It adds up over steps, so among fixed nodes the best grid of every
length is a shortest path. What it bounds is that sampler; multistep and deterministic ones have other best grids.

Source: Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (2024); solved exactly here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser, check_prediction
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn
from clarkia.samplers.solver import require
from clarkia.schedules.grids import at_levels, check_times, kappa_range
from clarkia.schedules.optimise import shortest_paths


@dataclass(frozen=True, eq=False)
class GridCosts:
    """What a step costs between any two of many nodes.

    Attributes:
        times: Decreasing times of the nodes, float64 ``(nodes,)``, the first 1.
        costs: Cost of a step from node i to node j > i, float64 ``(nodes, nodes)``; 0 on and below the diagonal.
    """

    times: Float[Tensor, " nodes"]
    costs: Float[Tensor, "nodes nodes"]

    def optimal(self, num_steps: int) -> Float[Tensor, " times"]:
        """The cheapest grid from the first node to the last, then 0.

        Args:
            num_steps: Number of steps, the last one to 0 included; at most the number of nodes.

        Returns:
            ``num_steps + 1`` float64 times decreasing from 1 to 0.
        """
        if not 1 <= num_steps <= len(self.times):
            raise ValueError(f"num_steps: expected 1 to {len(self.times)}, the number of nodes, found {num_steps}.")
        path = shortest_paths(self.costs, num_steps - 1)[1][-1] if num_steps > 1 else torch.tensor([0])
        return torch.cat([self.times[path], self.times.new_zeros(1)])

    def bound(self, times: Float[Tensor, " times"]) -> float:
        """The cost of any grid, each positive time taken at the node nearest to it; the step to 0 costs nothing."""
        times = check_times(times)
        if times.ndim != 1:
            raise ValueError(f"times: expected one grid for all rows, found shape {tuple(times.shape)}.")
        path = (times[times > 0].unsqueeze(1) - self.times).abs().argmin(1)
        return float(self.costs[path[:-1], path[1:]].sum())


def optimal_times(
    denoiser: Denoiser,
    process: Gaussian,
    data: Float[Tensor, "n ..."],
    num_steps: int,
    *,
    num_nodes: int = 160,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
    generator: Noise = None,
) -> Float[Tensor, " times"]:
    """The time grid that is best for the first-order stochastic sampler of one denoiser; see `grid_costs`.

    Args:
        denoiser: As in `grid_costs`, and so are the arguments not named here.
        process: The Gaussian process it undoes.
        data: Clean rows, ``(n, ...)``.
        num_steps: Number of steps, the last one to 0 included; at most ``num_nodes``.
        num_nodes: Number of noise levels to choose from.
        kappa_min: Last ``sigma / alpha`` before 0.
        kappa_max: First one.
        generator: Source of randomness.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Raises:
        ValueError: As `grid_costs`; more steps than nodes.

    Source: Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (2024).
    """
    if not 1 <= num_steps <= num_nodes:
        raise ValueError(f"num_steps: expected 1 to {num_nodes}, the number of nodes, found {num_steps}.")
    costs = grid_costs(
        denoiser, process, data, num_nodes=num_nodes, kappa_min=kappa_min, kappa_max=kappa_max, generator=generator
    )
    return costs.optimal(num_steps)


@torch.no_grad()
def grid_costs(
    denoiser: Denoiser,
    process: Gaussian,
    data: Float[Tensor, "n ..."],
    *,
    num_nodes: int = 160,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
    generator: Noise = None,
) -> GridCosts:
    """The bound KLUB of a step between any two noise levels, from one evaluation a row and level.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``; bind a condition before, one for each row of ``data``.
        process: The Gaussian process it undoes, with one schedule for all columns.
        data: Clean rows, ``(n, ...)``, floating; each takes one path of the forward process. Two thousand rows of a
            small problem do; the predictions at all levels are held at once.
        num_nodes: Number of noise levels, evenly spaced in ``log(sigma / alpha)``.
        kappa_min: Least ``sigma / alpha``; by default the process's own limit, or 0.002 where that is 0.
        kappa_max: Most; by default the process's own, or 80 where that is infinite.
        generator: Source of randomness.

    Returns:
        The costs, from which `GridCosts.optimal` reads the best grid of every length.

    Raises:
        ValueError: Not a Gaussian process, a schedule that differs by column, no rows, fewer than two levels, or a
            prediction of a wrong shape or not finite.
    """
    require(process, Gaussian, "grid_costs")
    if not (isinstance(data, Tensor) and data.is_floating_point() and data.ndim > 1 and len(data)):
        raise ValueError("data: expected at least one row of floating numbers, (n, ...).")
    if num_nodes < 2:
        raise ValueError(f"num_nodes: expected at least 2, found {num_nodes}.")
    high, low = kappa_range(process, kappa_min, kappa_max)
    levels = torch.linspace(math.log(high), math.log(low), num_nodes, dtype=torch.float64).exp()
    times = at_levels(process, levels)[:-1]
    t = process.t_of_kappa(levels)
    if t.ndim > 1:
        raise ValueError(f"process: expected one schedule for all columns, found {t.shape[1]}.")
    t = t.clamp(float(times[-1]), 1.0)  # the first node stands for t = 1 but is evaluated where its level is finite
    gaps = _mean_square_gaps(_predictions(denoiser, process, data, t, generator), len(data))
    lam = -process.kappa(t).log()
    # Row i holds e^(2 lambda) E |D(x_lambda) - D(x_i)|^2 from lambda_i on; a running integral gives all its steps.
    integral = torch.cumulative_trapezoid((2 * lam).exp() * gaps.triu(), lam, dim=1)
    return GridCosts(times, torch.cat([integral.new_zeros(num_nodes, 1), integral], 1))


def _predictions(
    denoiser: Denoiser, process: Gaussian, data: Tensor, t: Tensor, generator: Noise
) -> Float[Tensor, "nodes cells"]:
    """The denoiser's answers along one path of the forward process a row, from the least noise to the most.

    In ``y = x / alpha`` the process is Brownian motion in ``kappa^2``.
    """
    kappa, alpha = process.kappa(t), process.alpha(t)
    answers = data.new_empty(len(t), data.numel())
    y, reached = data, 0.0
    for node in reversed(range(len(t))):
        spread = math.sqrt(max(float(kappa[node]) ** 2 - reached**2, 0.0))
        y = y + spread * randn(data.shape, generator, dtype=data.dtype, device=data.device)
        reached = float(kappa[node])
        x_t, time = float(alpha[node]) * y, t[node].to(data).expand(len(data))
        prediction = denoiser(x_t, time)
        check_prediction(prediction, x_t, time, process)
        answers[node] = prediction.flatten()
    return answers


def _mean_square_gaps(answers: Tensor, rows: int) -> Float[Tensor, "nodes nodes"]:
    """``E |D_i - D_j|^2`` from one Gram matrix, summed in float64 over as many cells at a time as memory bears."""
    parts = (part.double() for part in answers.split(1 << 16, dim=1))
    gram = torch.stack([part @ part.T for part in parts]).sum(0).cpu()
    square = gram.diagonal()
    return (square.unsqueeze(1) + square - 2 * gram).clamp(min=0) / rows
