"""The log-density from denoising errors alone, at every signal-to-noise ratio from none to all."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.result import Likelihood
from clarkia.measures.likelihood.strata import stratified_mean
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn
from clarkia.schedules.grids import kappa_range

_PIECES = 256  # of the map from a uniform number to a log-SNR
_LEAST_TIME = 1e-6  # a process is clean at t = 0 itself


@torch.no_grad()
def immse_log_density(
    denoiser: Denoiser,
    process: Gaussian,
    x: Float[Tensor, "n ..."],
    *,
    num_draws: int = 32,
    scale: float = 1.0,
    generator: Noise = None,
) -> Likelihood:
    """Log-density of each row from the identity of information and least mean squared error.

    With g the signal-to-noise ratio and ``mmse_x(g)`` the mean over noise of the squared error at x, D dimensions,

        -log p(x) = D/2 log(2 pi e) - 1/2 integral over g from 0 of (D / (1 + g) - mmse_x(g)).

    No prior and no decoder enter. Only the excess over the errors of a normal law's denoiser, whose density is known,
    is drawn: over log g, with noises of opposite sign in pairs. The process reaches ratios up to its least noise
    (``sigma / alpha`` of 0.002 where it has none); beyond the ends the excess is taken to be constant below and to fall
    as ``1 / g^2`` above.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``; need not be differentiable. The identity is that of a posterior mean:
            with another denoiser the mean over data is never above that of the data's own log-density.
        process: A Gaussian process; only the ratios that it reaches matter.
        x: Clean rows, ``(n, ...)``.
        num_draws: Ratios drawn a row, an even number; two calls of the denoiser each, and 8 more for the ends.
        scale: Standard deviation of the normal law that is compared with; near the data's own the errors are small,
            and for any other the answer is as right.
        generator: Source of randomness.

    Returns:
        Nats with the standard error of each row's draws, of kind ``"estimate"``.

    Raises:
        ValueError: A wrong argument, or a denoiser that answers with a wrong shape or a number that is not finite.

    Source: Information-Theoretic Diffusion (2023).
    """
    if not isinstance(process, Gaussian):
        raise ValueError(f"process: expected a Gaussian process, found {type(process).__name__}; use measures.elbo.")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a positive number, found {scale}.")
    check_data(process, x)
    clean = x.double()
    high, low = kappa_range(process, None, None)
    nodes = _log_ratios(high, low, scale).to(x.device)
    widths = nodes.diff() * _PIECES

    def excess(level: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        return _excess(denoiser, process, x, level, scale, generator)

    def inside(u: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        cell = (u * _PIECES).long().clamp(max=_PIECES - 1)
        level = nodes[cell] + (u * _PIECES - cell) * widths[cell] / _PIECES
        return 0.5 * widths[cell] * level.exp() * excess(level)

    def ends(u: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        bottom, top = (node.expand(len(x)) for node in (nodes[0], nodes[-1]))
        return 0.5 * (bottom.exp() * excess(bottom) + top.exp() * excess(top))

    parts = [stratified_mean(inside, len(x), num_draws, generator, device=x.device)]
    parts.append(stratified_mean(ends, len(x), 2, generator, device=x.device))
    normal = -0.5 * ((clean / scale).square() + math.log(2 * math.pi * scale**2))
    nats = normal.reshape(len(x), -1).sum(1) - sum(mean for mean, _ in parts)
    return Likelihood(nats, torch.stack([error for _, error in parts]).square().sum(0).sqrt(), "estimate")


def _log_ratios(high: float, low: float, scale: float) -> Float64[Tensor, " nodes"]:
    """Increasing log-SNR at even quantiles of the draws: dense where ``g scale^2`` is near 1, a third spread evenly."""
    level = np.linspace(-2 * math.log(high), -2 * math.log(low), 4097)
    inner = 2 * np.arctan(np.tanh(0.25 * (level + 2 * math.log(scale))))  # the integral of 1 / cosh(level / 2)
    span = inner[-1] - inner[0]
    share = inner - inner[0] + 0.5 * span * np.linspace(0, 1, len(level))
    return torch.from_numpy(np.interp(np.linspace(0, 1, _PIECES + 1) * share[-1], share, level))


def _excess(
    denoiser: Denoiser, process: Gaussian, x: Tensor, level: Tensor, scale: float, generator: Noise
) -> Float64[Tensor, " n"]:
    """Squared error of the denoiser less that of the normal law's, each row at its log-SNR, mean of two noises."""
    t = process.t_of_kappa(torch.exp(-0.5 * level)).clamp(_LEAST_TIME, 1.0)
    alpha, sigma = process.coefficients(t, x.double())
    noise = randn(x.shape, generator, dtype=torch.float64, device=x.device)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for sign in (1.0, -1.0):
        x_t = alpha * x.double() + sigma * (sign * noise)
        reference = alpha * scale**2 / (alpha**2 * scale**2 + sigma**2) * x_t
        x0_hat = predict(denoiser, process, x_t.to(x.dtype), t)
        gap = (x.double() - x0_hat).square() - (x.double() - reference).square()
        total = total + 0.5 * gap.reshape(len(x), -1).sum(1)
    return total
