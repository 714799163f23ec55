"""Log-density of the probability flow: follow a data point to the prior and count how the flow squeezes it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.divergence import Divergence
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.result import Likelihood, certain
from clarkia.measures.likelihood.runge_kutta import integrate
from clarkia.processes import Gaussian
from clarkia.random import Noise

EXACT_DIMENSIONS = 16
"""Up to this many dimensions the trace is exact unless asked otherwise."""


@torch.no_grad()
def log_density(
    denoiser: Denoiser,
    process: Gaussian,
    x: Float[Tensor, "n ..."],
    *,
    trace: Literal["exact", "hutchinson"] | None = None,
    num_probes: int = 8,
    tolerance: float = 1e-5,
    generator: Noise = None,
) -> Likelihood:
    """Log-density of the law that the probability-flow ODE makes of the prior ``N(0, sigma(1)^2)``.

    The density at x is that of the flow's end point plus the divergence of the velocity along the way. The flow is
    followed in ``sqrt(t)``, in which it is smooth from the least noise to the prior; what lies below the least noise
    (``sigma / alpha`` of 0.002 where the process has no least) is one step.

    Args:
        denoiser: Must be differentiable in ``x_t``.
        process: A Gaussian process.
        x: Rows, ``(n, ...)``; the flow is followed in float64, the denoiser is called in the dtype of ``x``.
        trace: ``"exact"`` takes a backward pass a dimension, ``"hutchinson"`` one a probe; by default exact up to 16
            dimensions.
        num_probes: Vectors of random signs a row, at least 2, whose spread is the standard error.
        tolerance: Error aimed at, in nats; a step of the integration may err by a tenth of it.
        generator: Source of the probes.

    Returns:
        Nats, ``"exact"`` to the tolerance or an unbiased ``"estimate"``.

    Raises:
        ValueError: A wrong argument, or an answer that is not finite or not differentiable.

    Sources: Score-Based Generative Modeling through Stochastic Differential Equations (2021); FFJORD: Free-form
    Continuous Dynamics for Scalable Reversible Generative Models (2019).
    """
    _check(process, x, trace, num_probes, tolerance)
    dimensions = x[0].numel()
    exact = trace == "exact" or (trace is None and dimensions <= EXACT_DIMENSIONS)
    divergence = Divergence.along_axes(x) if exact else Divergence.along_signs(x, num_probes, generator)

    def field(state: Tensor, w: Tensor, rows: Tensor) -> Tensor:
        x_t = state[:, :dimensions].reshape(-1, *x.shape[1:])
        t = w**2  # so dt = 2 w dw
        velocity, spreading = divergence.of(lambda at: _velocity(denoiser, process, at, t, x.dtype), x_t, rows)
        return 2 * w[:, None] * torch.cat([velocity.flatten(1), spreading], 1)

    least = schedules.log_snr(2, process)[1].to(x.device)
    start = torch.cat(_first_step(denoiser, process, x, least, divergence), 1)
    state = integrate(field, start, math.sqrt(float(least)), 1.0, 0.1 * tolerance)
    end, gained = state[:, :dimensions].reshape(x.shape), state[:, dimensions:]
    nats = _prior_log_prob(process, end)[:, None] + gained
    if exact:
        return certain(nats[:, 0], "exact")
    return Likelihood(nats.mean(1), nats.std(1) / math.sqrt(num_probes), "estimate")


def _check(process: Gaussian, x: Tensor, trace: str | None, num_probes: int, tolerance: float) -> None:
    if not isinstance(process, Gaussian):
        raise ValueError(f"process: expected a Gaussian process, found {type(process).__name__}; use measures.elbo.")
    if trace not in ("exact", "hutchinson", None):
        raise ValueError(f"trace: expected 'exact' or 'hutchinson', found {trace!r}.")
    if num_probes < 2:
        raise ValueError(f"num_probes: expected at least 2, found {num_probes}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, found {tolerance}.")
    check_data(process, x)


def _velocity(denoiser: Denoiser, process: Gaussian, x_t: Tensor, t: Tensor, dtype: torch.dtype) -> Tensor:
    return process.velocity(x_t, _differentiable(denoiser, process, x_t.to(dtype), t), t)


def _differentiable(denoiser: Denoiser, process: Gaussian, x_t: Tensor, t: Tensor) -> Tensor:
    x0_hat = predict(denoiser, process, x_t, t)
    if not x0_hat.requires_grad:
        raise ValueError("denoiser: expected an answer that is differentiable in x_t, found one without a gradient.")
    return x0_hat


def _first_step(
    denoiser: Denoiser, process: Gaussian, x: Tensor, least: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """From the data to the least noise: the state there and the log-density gained, ``(n, d)`` and ``(n, c)``.

    In ``y = x_t / alpha`` and ``u = kappa^2 / 2`` the flow is ``dy/du = -score``, which is regular down to u = 0: one
    Euler step with the score at the least noise, ``(x0_hat - y) / kappa^2``, is a step by ``(y - x0_hat) / 2``.
    """
    t = least.expand(len(x))
    y = x.double()
    alpha = process.coefficients(t, y)[0]

    def step(y: Tensor) -> Tensor:
        return 0.5 * (y - _differentiable(denoiser, process, (alpha * y).to(x.dtype), t))

    move, spreading = divergence.of(step, y, torch.arange(len(x), device=x.device))
    scale = alpha.log().expand(x.shape).flatten(1).sum(1)
    return (alpha * (y + move)).flatten(1), scale[:, None] + spreading


def _prior_log_prob(process: Gaussian, x: Tensor) -> Tensor:
    sigma = process.coefficients(torch.ones(len(x), dtype=torch.float64, device=x.device), x)[1]
    log_prob = -0.5 * ((x / sigma).square() + math.log(2 * math.pi)) - sigma.log()
    return log_prob.reshape(len(x), -1).sum(1)
