"""Time grids for second-order multistep solvers, from what every step of theirs gets wrong on exact trajectories.

In ``y = x / alpha`` and ``kappa = sigma / alpha`` a step of 2M (``DPMSolverPP(2)``) from node j to node k, with node i
before it, is

    y_k' = (kappa_k / kappa_j) y_j + w_j D_j + w_i D_i,

its weights the midpoint's. On exact trajectories of the probability-flow equation its error ``y_k' - y_k`` is known for
every triple of nodes from inner products of states and predictions. An error made at k reaches the data shrunk about as
the whole law shrinks on the way, by ``sd(y_0) / sd(y_k)``; the sum of the shrunk errors, and of what the last step to 0
misses, bounds the error of the sample. The grid of least sum is a shortest path over pairs of nodes, and where to stop
before 0 comes out of it too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn
from clarkia.samplers.dpm import DPMSolverPP
from clarkia.samplers.exponential import exponential_weights
from clarkia.samplers.hooks import Trace
from clarkia.samplers.loop import sample
from clarkia.samplers.solver import require
from clarkia.schedules.grids import at_levels, kappa_range

REFINEMENT = 4
"""Steps of the reference between two nodes."""


@dataclass(frozen=True, eq=False)
class FlowCosts:
    """What each step of a second-order multistep solver gets wrong, between any three of many nodes.

    Attributes:
        times: Decreasing times of the nodes, float64 ``(nodes,)``, the first 1.
        first: Error of the first step, which has order 1, from node 0 to each node, ``(nodes,)``.
        inner: Error of the step from node j to node k with i before them, ``(nodes, nodes, nodes)``; infinite unless i
            < j < k.
        last: Error of taking the prediction at each node for the sample, ``(nodes,)``.
    """

    times: Float[Tensor, " nodes"]
    first: Float[Tensor, " nodes"]
    inner: Float[Tensor, "nodes nodes nodes"]
    last: Float[Tensor, " nodes"]

    def optimal(self, num_steps: int) -> Float[Tensor, " times"]:
        """The grid of least error from the first node to 0.

        ``V_1(0, j) = first(j)`` and ``V_m(j, k) = min over i of V_(m-1)(i, j) + inner(i, j, k)``.

        Args:
            num_steps: Number of steps, the last one to 0 included; at most the number of nodes.

        Returns:
            ``num_steps + 1`` float64 times decreasing from 1 to 0.
        """
        if not 1 <= num_steps <= len(self.times):
            raise ValueError(f"num_steps: expected 1 to {len(self.times)}, the number of nodes, found {num_steps}.")
        path = self._path(num_steps - 1) if num_steps > 1 else [0]
        return torch.cat([self.times[path], self.times.new_zeros(1)])

    def _path(self, moves: int) -> list[int]:
        nodes = len(self.times)
        best = torch.full((nodes, nodes), torch.inf, dtype=torch.float64)
        best[0] = self.first
        origins = []
        for _ in range(1, moves):
            best, origin = (best.unsqueeze(2) + self.inner).min(0)
            origins.append(origin)
        path = list(divmod(int((best + self.last).argmin()), nodes))
        for origin in reversed(origins):
            path.insert(0, int(origin[path[0], path[1]]))
        return path


def optimal_flow_times(
    denoiser: Denoiser,
    process: Gaussian,
    data: Float[Tensor, "n ..."],
    num_steps: int,
    *,
    num_nodes: int = 80,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
    generator: Noise = None,
) -> Float[Tensor, " times"]:
    """The time grid that is best for ``DPMSolverPP(2)`` with one denoiser, and good for ``UniPC(2)``; see `flow_costs`.

    Args:
        denoiser: As in `flow_costs`, and so are the arguments not named here.
        process: The Gaussian process it undoes.
        data: Clean rows, ``(n, ...)``.
        num_steps: Number of steps, the last one to 0 included; at most ``num_nodes``.
        num_nodes: Number of noise levels to choose from.
        kappa_min: Least of them.
        kappa_max: First one.
        generator: Source of randomness.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Raises:
        ValueError: As `flow_costs`; more steps than nodes.
    """
    if not 1 <= num_steps <= num_nodes:
        raise ValueError(f"num_steps: expected 1 to {num_nodes}, the number of nodes, found {num_steps}.")
    costs = flow_costs(
        denoiser, process, data, num_nodes=num_nodes, kappa_min=kappa_min, kappa_max=kappa_max, generator=generator
    )
    return costs.optimal(num_steps)


@torch.no_grad()
def flow_costs(
    denoiser: Denoiser,
    process: Gaussian,
    data: Float[Tensor, "n ..."],
    *,
    num_nodes: int = 80,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
    generator: Noise = None,
) -> FlowCosts:
    """Errors of all steps of a second-order multistep solver, from four evaluations a row and node.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``; bind a condition before, one for each row of ``data``.
        process: The Gaussian process it undoes, with one schedule for all columns.
        data: Clean rows, ``(n, ...)``, floating, at least two; each is noised once and followed back. A hundred or two
            do.
        num_nodes: Number of noise levels, evenly spaced in ``log(sigma / alpha)``; the costs hold its cube.
        kappa_min: Least ``sigma / alpha`` a grid may stop at before 0; by default as in `schedules.log_snr`.
        kappa_max: First one; by default the process's own, or 80 where that is infinite.
        generator: Source of randomness.

    Returns:
        The costs, from which `FlowCosts.optimal` reads the best grid of every length.

    Raises:
        ValueError: Not a Gaussian process, a schedule that differs by column, fewer than two rows or levels, or a
            prediction of a wrong shape or not finite.
    """
    require(process, Gaussian, "flow_costs")
    if not (isinstance(data, Tensor) and data.is_floating_point() and data.ndim > 1 and len(data) > 1):
        raise ValueError("data: expected at least two rows of floating numbers, (n, ...).")
    if num_nodes < 2:
        raise ValueError(f"num_nodes: expected at least 2, found {num_nodes}.")
    high, low = kappa_range(process, kappa_min, kappa_max)
    fine = torch.linspace(math.log(high), math.log(low), REFINEMENT * (num_nodes - 1) + 1, dtype=torch.float64).exp()
    t = process.t_of_kappa(fine)
    if t.ndim > 1:
        raise ValueError(f"process: expected one schedule for all columns, found {t.shape[1]}.")
    times = at_levels(process, fine)[:-1]
    t = t.clamp(float(times[-1]), 1.0)  # the first node stands for t = 1 but is used where its level is finite
    y, clean = _trajectories(denoiser, process, data, t, generator)
    return FlowCosts(times[::REFINEMENT], *_errors(y, clean, process.kappa(t)[::REFINEMENT]))


def _trajectories(
    denoiser: Denoiser, process: Gaussian, data: Tensor, t: Tensor, generator: Noise
) -> tuple[Float[Tensor, "nodes n cells"], Float[Tensor, "nodes n cells"]]:
    """States ``y = x / alpha`` and predictions at every node of exact trajectories, float64."""
    alpha, sigma = float(process.alpha(t[:1])), float(process.sigma(t[:1]))
    start = alpha * data + sigma * randn(data.shape, generator, dtype=data.dtype, device=data.device)
    trace = Trace()
    grid = torch.cat([t, t.new_zeros(1)])
    sample(denoiser, process, initial=start, solver=DPMSolverPP(3), times=grid, hooks=[trace])
    states = [start, *trace.states[:-1]][::REFINEMENT]
    y = torch.stack([x.double().flatten(1).cpu() for x in states])  # type: ignore[union-attr]
    clean = torch.stack([x0_hat.double().flatten(1).cpu() for x0_hat in trace.predictions[::REFINEMENT]])
    return y / process.alpha(t)[::REFINEMENT].reshape(-1, 1, 1), clean


def _errors(y: Tensor, clean: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Root mean squared errors of first, inner and last steps, shrunk to the data."""
    end = 0.5 * (y[-1] + clean[-1])  # y moves by half of kappa^2 times the score from there to 0, a whole one is D - y
    last = (clean - end).square().mean((1, 2)).sqrt()
    spread = (y - y.mean(1, keepdim=True)).square().mean((1, 2)).sqrt()
    shrink = (spread[-1] / spread).clamp(max=1.0)
    epsilon = ((y - clean) / kappa.reshape(-1, 1, 1)).flatten(1)
    clean = (clean - clean[-1]).flatten(1)  # only differences count below, and these lose fewer digits
    cells = clean.shape[1]
    cross, apart, turned = epsilon @ clean.T / cells, _gaps(clean) / cells, _gaps(epsilon) / cells
    lam = -kappa.log().numpy()

    def error(i: Tensor | None, j: Tensor, k: Tensor) -> Tensor:
        """Of a step from j to k: ``kappa_k (eps_j - eps_k) + a D_j + b D_i - D_k`` with ``a + b = 1``."""
        nodes = [lam[j]] if i is None else [lam[j], lam[i]]
        shares = exponential_weights(nodes, lam[j], lam[k], variant="midpoint")[1]
        weights = [torch.from_numpy(share) for share in shares]
        a = kappa[k] / kappa[j] + weights[0]
        total = kappa[k] ** 2 * turned[j, k] + a * apart[j, k]
        total = total + 2 * kappa[k] * (a * (cross[j, j] - cross[k, j]) - cross[j, k] + cross[k, k])
        if i is not None:
            b = weights[1]
            total = total + b * apart[i, k] - a * b * apart[j, i] + 2 * kappa[k] * b * (cross[j, i] - cross[k, i])
        return shrink[k] * total.clamp(min=0).sqrt()

    node = torch.arange(len(kappa))
    i, j, k = torch.meshgrid(node, node, node, indexing="ij")
    inner = torch.where((i < j) & (j < k), error(i, j, k), torch.inf)
    return torch.where(node > 0, error(None, 0 * node, node), torch.inf), inner, last


def _gaps(rows: Tensor) -> Tensor:
    """Squared distances between all rows."""
    square = rows @ rows.T
    return square.diagonal().unsqueeze(1) + square.diagonal() - 2 * square
