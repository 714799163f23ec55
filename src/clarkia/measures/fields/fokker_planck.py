"""Does a learned score obey the equation of its own densities, and do its two samplers agree?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia import samplers, schedules
from clarkia._math.energy import energy_distance, mean_distance
from clarkia._math.jacobians import gradient, rademacher, time_derivative, trace
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import check_count, check_gaussian, check_noisy, check_points, in_state_precision
from clarkia.processes import Gaussian

LEAST_TIME = 1e-3  # the residual's terms grow like 1 / sigma^4 towards t = 0


@torch.no_grad()
def fokker_planck_residual(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n ..."]:
    """How much a score field violates the Fokker-Planck equation of its process.

    With score ``s`` and probability-flow velocity ``v``, a log-density obeys ``d log p / dt + div v + v . s = 0``,
    which is the Fokker-Planck equation written as transport; this is the gradient of that, ``ds/dt + grad(div v + v .
    s)``. It is zero where the field is the score of the densities that it transports, and says nothing about whether
    these are the densities of the data.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable twice.
        process: The Gaussian process it is made for; time runs over [0, 1].
        x_t: Noisy states, ``(n, ...)``.
        t: Times in (0, 1], ``(n,)`` or one.
        probes: Number of random directions for the divergence; None for the exact one, which costs an evaluation an
            element.
        generator: Source of the directions.

    Returns:
        The residual at every state, of its shape, in units of the score by unit of time.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range.

    Source: Closing the ODE-SDE Gap in Score-based Diffusion Models through the Fokker-Planck Equation (2023).
    """
    check_gaussian(process)
    x_t = check_points(x_t)
    change, transport = _balance(denoiser, process, x_t, check_noisy(t, x_t), probes, generator)
    return change + transport


@torch.no_grad()
def potential_residual(
    potential: Callable[[Tensor, Tensor], Tensor],
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " n"]:
    """How much a log-density ``u(x, t)`` violates the Fokker-Planck equation of a process.

    ``du/dt + div v + v . grad u`` with the velocity ``v`` of the score ``grad u``. A potential may carry any function
    of time alone without changing its field: compare its residual with the mean over states of equal time.

    Args:
        potential: ``potential(x_t, t) -> (n,)``, differentiable twice in the state and once in time.
        process: The Gaussian process; alpha must not be 0 at the times given.
        x_t: Noisy states, ``(n, ...)``.
        t: Times in (0, 1], ``(n,)`` or one.
        probes: Number of random directions for the divergence; None for the exact one.
        generator: Source of the directions.

    Returns:
        The residual at every state, ``(n,)``.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range.

    Source: Closing the ODE-SDE Gap in Score-based Diffusion Models through the Fokker-Planck Equation (2023).
    """
    check_gaussian(process)
    x_t = check_points(x_t)
    t = check_noisy(t, x_t)

    def slope(x: Tensor, time: Tensor) -> Tensor:
        return gradient(lambda point: potential(point, time), x)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        return process.velocity(x, process.x0_from_score(x, slope(x, time), time), time)

    directions = _directions(x_t, probes, generator)
    carried = (velocity(x_t, t) * slope(x_t, t)).flatten(1).sum(1)
    return time_derivative(potential, x_t, t) + trace(velocity, x_t, t, directions) + carried


@dataclass(frozen=True, eq=False)
class OdeSdeGap:
    """What `ode_sde_gap` found.

    A smaller gap does not make better samples: look at both distances to the data too.

    Attributes:
        times: Middle of each time bin, float64 ``(bins,)``.
        residual: Root mean square of the residual's length in each bin, float64 ``(bins,)``.
        relative_residual: The same over that of the equation's two sides, the score's change and its transport; 0 for a
            consistent field, 1 where the two sides know nothing of each other.
        ode_sde: Energy distance between the samples of the two equations.
        ode_data: Energy distance between the samples of the probability-flow equation and the data.
        sde_data: Energy distance between the samples of the reverse diffusion and the data.
        floor: Expected energy distance of two independent samples of these sizes of the data's law.
        starts: Draws of the prior that both began at, ``(num_samples, ...)``.
        ode: Samples of the probability-flow equation, of that shape.
        sde: Samples of the reverse diffusion, of that shape.
    """

    times: Float64[Tensor, " bins"]
    residual: Float64[Tensor, " bins"]
    relative_residual: Float64[Tensor, " bins"]
    ode_sde: float
    ode_data: float
    sde_data: float
    floor: float
    starts: Tensor
    ode: Tensor
    sde: Tensor


@torch.no_grad()
def ode_sde_gap(
    denoiser: Denoiser,
    process: Gaussian,
    *,
    data: Float[Tensor, "n ..."],
    num_samples: int | None = None,
    num_steps: int = 200,
    times: Tensor | None = None,
    num_bins: int = 10,
    points_per_bin: int = 64,
    probes: int | None = None,
    ode: samplers.Solver | None = None,
    sde: samplers.Solver | None = None,
    generator: torch.Generator | None = None,
) -> OdeSdeGap:
    """Measure the disagreement between a denoiser's deterministic and stochastic samples, and the residual behind it.

    The distance between the two laws is bounded by the Fokker-Planck residual over time; without a residual, and from
    the right prior, they agree.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable twice.
        process: The Gaussian process it is made for.
        data: Clean data to compare with, ``(n, ...)``; noised, they are where the residual is taken.
        num_samples: Samples of each equation; as many as data where None.
        num_steps: Steps of each run, evenly spaced in the log signal-to-noise ratio.
        times: A decreasing grid of times from 1 to 0, ``(steps + 1,)``, in their place.
        num_bins: Bins of equal width in time, from 0.001 to 1.
        points_per_bin: States in each of them.
        probes: Random directions for the residual's divergence; None for the exact one.
        ode: Solver of the probability-flow equation; `samplers.Heun` where None.
        sde: Solver of the reverse diffusion; `samplers.DPMSolverPP` with stochasticity 1 where None.
        generator: Source of randomness.

    Returns:
        Residual by time and the three distances.

    Raises:
        ValueError: A process that is not Gaussian, data that are not finite rows, counts below 1.

    Source: Closing the ODE-SDE Gap in Score-based Diffusion Models through the Fokker-Planck Equation (2023).
    """
    check_gaussian(process)
    data = check_points(data, "data", least=2)
    count = len(data) if num_samples is None else check_count(num_samples, "num_samples", least=2)
    bins, per_bin = check_count(num_bins, "num_bins"), check_count(points_per_bin, "points_per_bin")

    edges = torch.linspace(LEAST_TIME, 1, bins + 1, dtype=torch.float64)
    width = edges[1] - edges[0]
    shares = torch.rand(bins, per_bin, generator=generator, dtype=torch.float64)
    t = (edges[:-1, None] + width * shares).flatten().to(data.device)
    rows = torch.randint(len(data), (bins * per_bin,), generator=generator)
    x_t = process.corrupt(data[rows.to(data.device)], t, generator=generator)
    change, transport = _balance(denoiser, process, x_t, t, probes, generator)
    residual, *sides = (
        part.double().flatten(1).square().sum(1).reshape(bins, -1).mean(1)
        for part in (change + transport, change, transport)
    )

    steps = check_count(num_steps, "num_steps")
    grid = schedules.log_snr(steps, process) if times is None else schedules.check_times(times)
    start = process.prior(count, data.shape[1:], generator=generator, dtype=data.dtype, device=data.device)
    solvers = (ode or samplers.Heun(), sde or samplers.DPMSolverPP(stochasticity=1.0))
    ends: list[Any] = [
        samplers.sample(denoiser, process, initial=start, solver=solver, times=grid, generator=generator)
        for solver in solvers
    ]
    first, second, real = (points.flatten(1) for points in (*ends, data))
    typical = float(mean_distance(real, real)) * len(real) / (len(real) - 1)
    return OdeSdeGap(
        times=0.5 * (edges[1:] + edges[:-1]),
        residual=residual.sqrt(),
        relative_residual=(residual / (sides[0] + sides[1]).clamp(min=1e-300)).sqrt(),
        ode_sde=float(energy_distance(first, second)),
        ode_data=float(energy_distance(first, real)),
        sde_data=float(energy_distance(second, real)),
        floor=(1 / count + 1 / len(real)) * typical,
        starts=start,
        ode=ends[0],
        sde=ends[1],
    )


def _balance(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Tensor,
    t: Tensor,
    probes: int | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The two sides of the equation for the score: ``ds/dt`` and ``grad(div v + v . s)``."""
    denoiser = in_state_precision(denoiser)
    directions = _directions(x_t, probes, generator)

    def score(x: Tensor, time: Tensor) -> Tensor:
        return process.score(x, denoiser(x, time), time)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        return process.velocity(x, denoiser(x, time), time)

    def transport(x: Tensor) -> Tensor:
        x0_hat = denoiser(x, t)
        carried = process.velocity(x, x0_hat, t) * process.score(x, x0_hat, t)
        return trace(velocity, x, t, directions) + carried.flatten(1).sum(1)

    return time_derivative(score, x_t, t), gradient(transport, x_t)


def _directions(x: Tensor, probes: int | None, generator: torch.Generator | None) -> Tensor | None:
    return None if probes is None else rademacher(x, check_count(probes, "probes"), generator)
