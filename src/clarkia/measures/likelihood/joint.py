"""The likelihood of a denoiser corrected by an energy of whole sequences: bounded in T steps, and only there.

In continuous time cells are revealed one at a time, so an energy enters that bound through its marginals alone. A
sampler of T steps reveals a set R of cells at once and draws it from ``p(x_R | x_t)``; minus the log of that, summed
over the steps, is the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.discrete import masked_by_count, prior_divergence
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.result import Likelihood
from clarkia.measures.likelihood.strata import stratified_mean
from clarkia.processes import Masked, spread
from clarkia.random import Noise, rand
from clarkia.samplers.joint import Energy, checked, drawn_wholes


@dataclass(frozen=True, eq=False)
class JointBound:
    """The T-step bound of a corrected denoiser, enclosed from both sides.

    Attributes:
        lower: Below the bound in expectation (kind ``"T-step bound"``), so a bound itself; from 4 samples on.
        upper: Above it in expectation (kind ``"estimate"``): how much sampling the normaliser may have cost.
    """

    lower: Likelihood
    upper: Likelihood


@torch.no_grad()
def joint_elbo(
    denoiser: Denoiser,
    process: Masked,
    x: Int[Tensor, "n ..."],
    energy: Energy,
    *,
    num_steps: int,
    num_draws: int = 32,
    num_samples: int = 16,
    normalised: bool = False,
    generator: Noise = None,
) -> JointBound:
    """Bound on the log-probability of rows under ``p(x_0 | x_t) = prod_i p0_hat(x_0^i | x_t) exp(-E) / Z(x_t)``.

    It is that of the sampler which walks an even grid of T times and draws the cells of a step exactly from this law.
    A set R costs ``-sum_R log p0_hat - log E_rest[exp(-E)] + log E_all[exp(-E)]``, both means over samples of
    ``p0_hat``.

    Args:
        denoiser: ``denoiser(x_t, t)``; called ``num_draws`` times.
        process: Its masked process.
        x: Clean classes, ``(n, ...)``.
        energy: ``energy(x_0, x_t, t, log_probs) -> (n,)``, called at most ``2 num_draws num_samples`` times.
        num_steps: T.
        num_draws: Corrupted states a row, an even number.
        num_samples: Samples of each mean, at least 2.
        normalised: Whether ``Z(x_t) = 1`` is known, as of `samplers.energies.causal_residual` with carry-over.
        generator: Source of randomness.

    Returns:
        Nats from both sides, with the standard error of each row's draws.

    Raises:
        ValueError: Data that do not fit the process, a wrong argument, or a wrong answer of denoiser or energy.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024), with its estimate replaced by a bound.
    """
    check_process(process)
    check_data(process, x)
    if num_steps < 1 or num_samples < 2:
        raise ValueError(f"num_steps, num_samples: expected at least 1 and 2, found {num_steps} and {num_samples}.")
    grid = schedules.uniform(num_steps).to(x.device)

    def both_sides(u: Float[Tensor, " n"]) -> Float[Tensor, "2 n"]:
        index = (u * num_steps).long().clamp(max=num_steps - 1)
        t, s = grid[index], grid[index + 1]
        x_t = process.corrupt(x, t, generator=generator)
        log_probs = predict(denoiser, process, x_t, t)
        masked = process.is_masked(x_t)
        stay = process.stay(spread(t, x), spread(s, x))
        revealed = masked & (rand(x.shape, generator, device=x.device) >= stay)
        factorised = _true(log_probs, x, revealed)
        uniforms = rand((len(x), 2, num_samples, *x.shape[1:]), generator, device=x.device)
        lower, upper = torch.zeros_like(factorised), torch.zeros_like(factorised)
        rows = (revealed.flatten(1).any(1) & (factorised > -torch.inf)).nonzero().squeeze(1)
        if len(rows):
            weights = _Weights(energy, x_t[rows], t[rows], log_probs[rows])
            held = torch.where(revealed, x, x_t)[rows]
            given = weights.bounds(held, masked[rows] & ~revealed[rows], uniforms[rows, 0])
            every = (torch.zeros_like(given[0]), torch.zeros_like(given[0]))
            if not normalised:
                every = weights.bounds(x_t[rows], masked[rows], uniforms[rows, 1])
            lower[rows], upper[rows] = given[0] - every[1], given[1] - every[0]
        return num_steps * torch.stack([factorised + lower, factorised + upper])

    prior = prior_divergence(process, x)
    mean, error = stratified_mean(both_sides, len(x), num_draws, generator, device=x.device)
    lower, upper = mean - prior
    return JointBound(Likelihood(lower, error[0], "T-step bound"), Likelihood(upper, error[1], "estimate"))


@torch.no_grad()
def edlm_paper(
    denoiser: Denoiser,
    process: Masked,
    x: Int[Tensor, "n ..."],
    energy: Energy,
    *,
    num_draws: int = 32,
    num_samples: int = 16,
    normalised: bool = False,
    generator: Noise = None,
) -> Likelihood:
    """The published figure: the joint ``log p(x_0 | x_t)`` under the weight of the continuous-time bound. Not a bound.

    The weight is right for cells that are revealed one at a time, while the joint counts what they say of each other
    over again: of two equal fair bits it finds half their entropy, and with a carry-over causal model that model's own
    likelihood whatever the denoiser. It is here to be compared with published tables; `joint_elbo` is the bound.

    Args:
        denoiser: ``denoiser(x_t, t)``.
        process: Its masked process, one schedule for all positions.
        x: Clean classes, ``(n, ...)``.
        energy: ``energy(x_0, x_t, t, log_probs) -> (n,)``.
        num_draws: Corrupted states a row, an even number.
        num_samples: Samples of the normaliser, whose log of the mean flatters the figure further.
        normalised: Whether ``Z(x_t) = 1`` is known.
        generator: Source of randomness.

    Returns:
        Nats, of kind ``"not a bound"``.

    Raises:
        ValueError: As `joint_elbo`.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024).
    """
    check_process(process)
    check_data(process, x)

    def value(u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        x_t, t, masked, weight = masked_by_count(process, x, u, generator)
        log_probs = predict(denoiser, process, x_t, t)
        nats = _true(log_probs, x, masked)
        uniforms = rand((len(x), num_samples, *x.shape[1:]), generator, device=x.device)
        rows = (nats > -torch.inf).nonzero().squeeze(1)
        if len(rows):
            weights = _Weights(energy, x_t[rows], t[rows], log_probs[rows])
            log_z = 0.0 if normalised else weights.bounds(x_t[rows], masked[rows], uniforms[rows])[0]
            nats[rows] += weights.log(x[rows]) - log_z
        return weight * nats

    mean, error = stratified_mean(value, len(x), num_draws, generator, device=x.device)
    return Likelihood(mean, error, "not a bound")


def log_mean_bounds(log_weights: Float[Tensor, "n m"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The log of a mean of positive weights from m samples, from below and from above in expectation.

    With ``T_m`` the log of the samples' mean and ``T_{m-1}`` the average of that of all but one:
    ``E[T_m] <= log Z <= E[(2m - 1) T_m - 2 (m - 1) T_{m-1}]``, the latter as m grows; of order 1 / m apart.

    Args:
        log_weights: ``(n, m)`` with m >= 2; minus infinity is a weight of zero.

    Returns:
        Both float64 ``(n,)``; infinity above where a single weight is not zero.
    """
    log_weights = log_weights.double()
    m = log_weights.shape[1]
    whole = log_weights.logsumexp(1) - math.log(m)
    alone = torch.eye(m, dtype=torch.bool, device=log_weights.device)
    others = log_weights.unsqueeze(1).masked_fill(alone, -torch.inf).logsumexp(2) - math.log(m - 1)
    others = others.mean(1)
    known = others > -torch.inf
    upper = (2 * m - 1) * whole - 2 * (m - 1) * torch.where(known, others, 0.0)
    return whole, torch.where(known, upper, torch.inf)


def check_process(process: Masked) -> None:
    """Raise ``ValueError`` for any other process than a masked one."""
    if not isinstance(process, Masked):
        raise ValueError(f"process: expected a masked process, found {type(process).__name__}.")


@dataclass(frozen=True, eq=False)
class _Weights:
    """``exp(-E)`` of clean rows, given their noisy states."""

    energy: Energy
    x_t: Tensor
    t: Tensor
    log_probs: Tensor

    def log(self, x_0: Tensor) -> Float[Tensor, " n"]:
        return -checked(self.energy, x_0, self.x_t, self.t, self.log_probs)

    def bounds(self, state: Tensor, free: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides of the log of their mean over the free cells of a state."""
        wholes = drawn_wholes(state, free, self.log_probs, uniforms)
        return log_mean_bounds(torch.stack([self.log(whole) for whole in wholes], 1))


def _true(log_probs: Tensor, x: Tensor, cells: Tensor) -> Float[Tensor, " n"]:
    """Log-probability of the true classes of some cells, each by itself."""
    nats = log_probs.gather(-1, x.unsqueeze(-1)).squeeze(-1)
    return torch.where(cells, nats, 0.0).reshape(len(x), -1).sum(1)
