"""Is a network that jumps between times the flow of a denoiser? The identities that the flow alone fulfils."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.jacobians import along
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import check_gaussian, check_noisy, check_points, in_state_precision
from clarkia.processes import Gaussian


@dataclass(frozen=True, eq=False)
class FlowMapResiduals:
    """What `flow_map_residuals` found: lengths of the violations at n states, each float64 ``(n,)``.

    Attributes:
        identity: Of ``Psi(x, t, t) = x``.
        semigroup: Of ``Psi(Psi(x, t, u), u, s) = Psi(x, t, s)``.
        lagrangian: Of ``d Psi(x, t, s) / ds = v(Psi(x, t, s), s)``: the end moves with the flow.
        eulerian: Of ``d Psi(x, t, s) / dt + (d Psi / dx) v(x, t) = 0``: starts on one path have one end.
    """

    identity: Float64[Tensor, " n"]
    semigroup: Float64[Tensor, " n"]
    lagrangian: Float64[Tensor, " n"]
    eulerian: Float64[Tensor, " n"]


@torch.no_grad()
def flow_map_residuals(
    flow_map: Callable[[Tensor, Tensor, Tensor], Tensor],
    process: Gaussian,
    denoiser: Denoiser,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    s: Tensor | float,
    *,
    between: Tensor | float | None = None,
) -> FlowMapResiduals:
    """Check a map between times against the probability-flow equation of a denoiser.

    The identity with either differential equation makes the map the flow: a consistency model is its row ``s`` near 0,
    a mean-flow model's velocity is ``(Psi(x, t, s) - x) / (s - t)``.

    Args:
        flow_map: ``flow_map(x_t, t, s) -> x_s`` for times ``(n,)``, differentiable in all three.
        process: The Gaussian process.
        denoiser: ``denoiser(x_t, t) -> x0_hat``, whose velocity drives the flow.
        x_t: States to start from, ``(n, ...)``.
        t: Times of these states in (0, 1], ``(n,)`` or one.
        s: Times to go to, in (0, 1], earlier or later.
        between: Times to stop at on the way, in (0, 1]; half-way where None.

    Returns:
        The length of each violation at every state; velocities are by unit of time.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range, a map that returns
            another shape than its state's.

    Source: The Principles of Diffusion Models (2025).
    """
    check_gaussian(process)
    x = check_points(x_t)
    t, s = check_noisy(t, x), check_noisy(s, x, "s")
    u = 0.5 * (t + s) if between is None else check_noisy(between, x, "between")
    denoise = in_state_precision(denoiser)

    def velocity(state: Tensor, time: Tensor) -> Tensor:
        return process.velocity(state, denoise(state, time), time)

    same = flow_map(x, t, t)
    if not isinstance(same, Tensor) or same.shape != x.shape:
        found = tuple(same.shape) if isinstance(same, Tensor) else type(same).__name__
        raise ValueError(f"flow_map: expected states of shape {tuple(x.shape)}, found {found}.")
    end, end_moves = along(lambda time: flow_map(x, t, time), (s,), (torch.ones_like(s),))
    start_moves = along(lambda state, time: flow_map(state, time, s), (x, t), (velocity(x, t), torch.ones_like(t)))[1]
    return FlowMapResiduals(
        identity=_length(same - x),
        semigroup=_length(flow_map(flow_map(x, t, u), u, s) - end),
        lagrangian=_length(end_moves - velocity(end, s)),
        eulerian=_length(start_moves),
    )


def _length(rows: Tensor) -> Tensor:
    return rows.double().flatten(1).norm(dim=1)
