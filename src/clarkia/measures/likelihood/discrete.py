"""The evidence lower bound of categories: how many cells are masked, when they change, or step by step."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.evaluate import predict
from clarkia.measures.likelihood.result import Likelihood
from clarkia.measures.likelihood.strata import stratified_mean
from clarkia.processes import Discrete, Masked, spread
from clarkia.random import Noise, rand

LEAST_TIME = 1e-5


def discrete_elbo(
    denoiser: Denoiser,
    process: Discrete,
    x: Int[Tensor, "n ..."],
    *,
    estimator: str | None,
    num_draws: int,
    num_steps: int | None,
    generator: Noise,
) -> Likelihood:
    """The bound on ``log p(x)``; see `elbo` for the arguments."""
    shared = process.alpha(torch.full((1,), 0.5)).numel() == 1
    countable = isinstance(process, Masked) and shared
    if estimator == "count" and not countable:
        raise ValueError("estimator: expected 'time', since 'count' needs masks with one schedule for all positions.")
    draws = _Draws(denoiser, process, x, num_draws, generator)
    if num_steps is not None:
        value, kind = draws.step(schedules.uniform(num_steps).to(x.device)), "T-step bound"
    elif countable and estimator != "time":
        # How many cells are masked does not depend on the schedule, so neither does this bound, its ends included.
        mean, error = stratified_mean(draws.count, len(x), num_draws, generator, device=x.device)
        return Likelihood(-mean, error, "bound")
    else:
        value, kind = draws.moment, "bound"
    prior = prior_divergence(process, x)
    mean, error = stratified_mean(value, len(x), num_draws, generator, device=x.device)
    return Likelihood(-prior - mean, error, kind)  # type: ignore[arg-type]


def least_time(process: Discrete) -> float:
    """Where the integral over time hands over to the reconstruction.

    For masks whose every cell is visible as t falls to 0 that is 0. Otherwise it is above: of a mixture path, a
    network need not become certain of the data as t falls to 0, and then the integral alone would be infinite. An
    exact prediction loses next to nothing, since this early two cells of one row are hardly ever noise together.
    """
    earliest = process.alpha(torch.full((1,), 1e-300, dtype=torch.float64))
    return 0.0 if isinstance(process, Masked) and bool((earliest == 1).all()) else LEAST_TIME


class _Draws:
    """One draw of the negative bound of every row, from one u a row."""

    def __init__(self, denoiser: Denoiser, process: Discrete, x: Tensor, num_draws: int, generator: Noise) -> None:
        self.denoiser, self.process, self.x, self.generator = denoiser, process, x, generator
        self.least = least_time(process)
        self.reconstructions = 1 / max(num_draws // 2, 2) if self.least else 0.0  # share of the draws

    def count(self, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """``L / c`` times the nats of c masked cells, c uniform in 1 ... L; u decides c."""
        x_t, t, masked, weight = masked_by_count(self.process, self.x, u, self.generator)  # type: ignore[arg-type]
        return weight * cross_entropy(self.x, predict(self.denoiser, self.process, x_t, t), masked)

    def moment(self, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The bound's integrand at a time with density ``1 / (2 sqrt(t))``, or now and then the reconstruction.

        Uniform times would leave the integrand, which is of order 1 / t with probability t, without a variance.
        """
        share, root = self.reconstructions, math.sqrt(self.least)
        last = u < share
        v = root + (1 - root) * ((u - share) / (1 - share)).clamp(min=0)
        t = torch.where(last, self.least, v**2)
        x_t = self.process.corrupt(self.x, t, generator=self.generator)
        log_probs = predict(self.denoiser, self.process, x_t, t)
        path = rate_divergence(self.process, self.x, x_t, log_probs, t) * 2 * v * (1 - root) / (1 - share)
        return torch.where(last, cross_entropy(self.x, log_probs) / share, path)

    def step(self, grid: Float[Tensor, " nodes"]):
        """T times the divergence of one of the T steps; u decides which."""
        steps = len(grid) - 1

        def value(u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            index = (u * steps).long().clamp(max=steps - 1)
            t, s = grid[index], grid[index + 1]
            x_t = self.process.corrupt(self.x, t, generator=self.generator)
            log_probs = predict(self.denoiser, self.process, x_t, t)
            return steps * step_divergence(self.process, self.x, x_t, log_probs, t, s)

        return value


def masked_by_count(
    process: Masked, x: Int[Tensor, "n ..."], u: Float[Tensor, " n"], generator: Noise = None
) -> tuple[Tensor, Float[Tensor, " n"], Tensor, Float[Tensor, " n"]]:
    """Rows with c random cells masked, c uniform in 1 ... L; u decides c.

    Args:
        process: A masked process with one schedule for all positions.
        x: Clean classes with L cells a row.
        u: One number in [0, 1) a row.
        generator: Source of randomness.

    Returns:
        The noisy rows; their times, which follow the law of the c-th smallest of L uniform levels, as times do given c;
        which cells are masked; the weight ``L / c`` of their nats.
    """
    cells = x.reshape(len(x), -1)
    length = cells.shape[1]
    count = (u * length).long().clamp(max=length - 1) + 1
    own = rand(cells.shape, generator, device=u.device)
    level = own.sort(1).values.gather(1, count[:, None] - 1)
    masked = (own <= level).reshape(x.shape)
    x_t = torch.where(masked, process.mask_state(u.device), x)
    return x_t, process.schedule.t_of_alpha(1 - level[:, 0]).clamp(0, 1), masked, length / count


def cross_entropy(x: Tensor, log_probs: Tensor, cells: Tensor | None = None) -> Float[Tensor, " n"]:
    """Nats of the true classes, summed over all cells or over those chosen."""
    nats = -log_probs.gather(-1, x.unsqueeze(-1)).squeeze(-1)
    return _rows(nats if cells is None else torch.where(cells, nats, 0.0))


def rate_divergence(process: Discrete, x: Tensor, x_t: Tensor, log_probs: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """Divergence a unit of time of the reversal that knows x from the model's: the bound's integrand.

    For jump rates r of the former and s of the latter it is the sum of ``s - r + r log(r / s)`` over jumps; for masks
    that is the revealing rate times the nats of the masked cells.

    Sources: Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (2024); Simple and Effective
    Masked Diffusion Language Models (2024).
    """
    if isinstance(process, Masked):
        nats = -log_probs.gather(-1, x.unsqueeze(-1)).squeeze(-1)
        return _rows(torch.where(process.is_masked(x_t), process.weight(spread(t, x)) * nats, 0.0))
    r, s = process.rates(x_t, one_hot_log_probs(process, x), t), process.rates(x_t, log_probs, t)
    ratio = torch.where(r > 0, r / s, 1.0)
    return _rows((s - r + torch.special.xlogy(r, ratio)).sum(-1))


def step_divergence(
    process: Discrete, x: Tensor, x_t: Tensor, log_probs: Tensor, t: Tensor, s: Tensor
) -> Float[Tensor, " n"]:
    """Divergence of the step from t to s that knows x from the model's."""
    return process.kernel(x_t, one_hot_log_probs(process, x), t, s).kl(process.kernel(x_t, log_probs, t, s))


def prior_divergence(process: Discrete, x: Tensor) -> Float[Tensor, " n"]:
    """Divergence of ``q(x_1 | x)`` from pure noise; 0 where nothing of the data is left at t = 1.

    Raises:
        ValueError: A process that leaves data in a state that noise never has, so that the bound is infinite.
    """
    one = torch.ones(1, dtype=torch.float64, device=x.device)
    alpha = process.alpha(spread(one.expand(len(x)), x)).double().expand(x.shape)
    noise = process.noise_probs(x.device)
    pi = noise.expand(*x.shape, -1).gather(-1, x.unsqueeze(-1)).squeeze(-1)
    if bool(((pi == 0) & (alpha > 1e-6)).any()):
        raise ValueError(
            "process: expected one that leaves nothing of the data at t = 1 where noise has other states, "
            f"found a share of {float(alpha.max()):.3g}: the bound is infinite."
        )
    alpha = torch.where(pi == 0, 0.0, alpha)
    same = alpha + (1 - alpha) * pi
    moved = torch.special.xlogy((1 - alpha) * (1 - pi), 1 - alpha)
    return _rows(torch.special.xlogy(same, torch.where(pi > 0, same / pi, 1.0)) + moved)


def one_hot_log_probs(process: Discrete, x: Tensor) -> Float[Tensor, "n ... k"]:
    """The prediction that knows the data."""
    certain = torch.full((*x.shape, process.max_classes), -torch.inf, dtype=torch.float64, device=x.device)
    return certain.scatter(-1, x.unsqueeze(-1), 0.0)


def _rows(values: Tensor) -> Float[Tensor, " n"]:
    return values.reshape(len(values), -1).sum(1)
