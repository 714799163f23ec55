"""The evidence lower bound of a Gaussian process: prior, diffusion and reconstruction."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.evaluate import predict
from clarkia.measures.likelihood.result import Likelihood
from clarkia.measures.likelihood.strata import stratified_mean
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.schedules.grids import at_levels, kappa_range

_PIECES = 256  # of the map from a uniform number to a time


def gaussian_elbo(
    denoiser: Denoiser,
    process: Gaussian,
    x: Float[Tensor, "n ..."],
    *,
    num_draws: int,
    num_steps: int | None,
    bin_width: float | Tensor | None,
    generator: Noise,
) -> Likelihood:
    """The bound on ``log p(x)``, or with a bin width on the log-probability of the bin around x; see `elbo`.

    With ``snr = (alpha / sigma)^2`` and u the time of the least noise, its three terms are

        prior           KL(N(alpha_1 x, sigma_1^2) || N(0, sigma_1^2))
        diffusion       half the integral of |x - x0_hat(x_t)|^2 over snr from t = 1 to u, or its sum over T steps
        reconstruction  -E log N(x; x_u / alpha_u, kappa_u^2), or that of the law's mass in the bin.

    The diffusion term of a standard normal's denoiser is known; only this denoiser's excess over it is drawn, because
    at little noise all denoisers agree and most of the variance goes.

    Source: Variational Diffusion Models (2021).
    """
    nodes = (schedules.log_snr(num_steps + 1, process)[:-1] if num_steps else _levels(process)).to(x.device)
    clean, draw = x.double(), _step if num_steps else _moment

    def excess(u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        t, weight = draw(process, nodes, u, clean)
        x_t = process.corrupt(x, t, generator=generator)
        alpha, sigma = process.coefficients(t, clean)
        reference = alpha / (alpha**2 + sigma**2) * x_t.double()
        x0_hat = predict(denoiser, process, x_t, t)
        return _rows(weight * ((clean - x0_hat).square() - (clean - reference).square()))

    drawn, error = stratified_mean(excess, len(x), num_draws, generator, device=x.device)
    snr = _snr(process, nodes, clean[:1].expand(len(nodes), *x.shape[1:]))
    known = _steps_of_standard_normal(clean, snr) if num_steps else _standard_normal(clean, snr)
    prior = 0.5 * snr[0] * clean.square()
    reconstruction = 0.5 * snr[-1].log() - 0.5 - 0.5 * math.log(2 * math.pi)
    if bin_width is not None:
        reconstruction = _bin_log_mass(0.5 * torch.as_tensor(bin_width, device=x.device) * snr[-1].sqrt())
    nats = _rows(reconstruction.expand(x.shape) - prior - known) - drawn
    return Likelihood(nats, error, "T-step bound" if num_steps else "bound")


def _step(process: Gaussian, nodes: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Time ``(n,)`` and weight of one of the T steps: T times half the gain of signal-to-noise ratio."""
    steps = len(nodes) - 1
    cell = (u * steps).long().clamp(max=steps - 1)
    t, s = nodes[cell], nodes[cell + 1]
    return t, 0.5 * steps * (_snr(process, s, x) - _snr(process, t, x))


def _moment(process: Gaussian, nodes: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Time ``(n,)`` and weight ``-snr'(t) / 2 dt/du`` of the continuous bound.

    t is linear in u between the nodes. So dt/du is known, the mean over u is the integral over t however the nodes
    lie, and the first piece reaches alpha = 0, where log-SNR is minus infinity.
    """
    pieces = len(nodes) - 1
    cell = (u * pieces).long().clamp(max=pieces - 1)
    length = nodes[cell] - nodes[cell + 1]
    t = nodes[cell] - (u * pieces - cell) * length
    alpha, sigma = process.coefficients(t, x)
    d_alpha, d_sigma = (derivative(spread(t, x)) for derivative in (process.d_alpha, process.d_sigma))
    half_rate = alpha * (alpha * d_sigma - d_alpha * sigma) / sigma**3
    return t, half_rate * spread(pieces * length, x)


def _levels(process: Gaussian) -> Tensor:
    """Times whose log-SNR is dense where the excess varies: as ``min(kappa, 1 / kappa)``, with a third spread evenly.

    Data are taken to have standard deviations of about 1; for others the bound is as right, its draws less sharp.
    """
    high, low = kappa_range(process, None, None)
    level = torch.linspace(math.log(high), math.log(low), 4097, dtype=torch.float64)
    inner = (2 * torch.atan(torch.tanh(0.5 * level))).neg()  # the integral of 1 / cosh
    share = inner - inner[0] + 0.5 * (inner[-1] - inner[0]) * torch.linspace(0, 1, len(level), dtype=torch.float64)
    places = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64) * share[-1]
    quantiles = np.interp(places.numpy(), share.numpy(), level.numpy())
    return at_levels(process, torch.from_numpy(quantiles).exp())[:-1]


def _snr(process: Gaussian, t: Tensor, x: Tensor) -> Tensor:
    alpha, sigma = process.coefficients(t, x)
    return (alpha / sigma).square()


def _standard_normal(x: Tensor, snr: Tensor) -> Tensor:
    """Diffusion term of the denoiser ``alpha x_t / (alpha^2 + sigma^2)`` between the first and the last node."""

    def antiderivative(snr: Tensor) -> Tensor:
        return 0.5 * (torch.log1p(snr) - (1 - x.square()) * snr / (1 + snr))

    return antiderivative(snr[-1]) - antiderivative(snr[0])


def _steps_of_standard_normal(x: Tensor, snr: Tensor) -> Tensor:
    """The same of T steps: its expected squared error at ratio r is ``(x^2 + r) / (1 + r)^2``."""
    share = 0.5 * snr.diff(dim=0) / (1 + snr[:-1]).square()
    return x.square() * share.sum(0) + (share * snr[:-1]).sum(0)


def _bin_log_mass(half: Tensor) -> Tensor:
    """``E log(Phi(h - z) - Phi(-h - z))`` for normal z and half widths h in units of the noise.

    The trapezium rule converges faster than any power for such an integrand.
    """
    z = torch.linspace(-10, 10, 2001, dtype=torch.float64, device=half.device)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    half = half.double().unsqueeze(-1)
    upper, lower = (torch.special.log_ndtr(end - z.abs()) for end in (half, -half))
    return ((upper + torch.log(-torch.expm1(lower - upper))) * density).sum(-1)


def _rows(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1).sum(1)
