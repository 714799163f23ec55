"""The evidence lower bound of any process."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser, check_prediction
from clarkia.measures.likelihood.discrete import discrete_elbo
from clarkia.measures.likelihood.evaluate import check_data
from clarkia.measures.likelihood.gaussian import gaussian_elbo
from clarkia.measures.likelihood.result import Likelihood
from clarkia.objectives import MixedDenoising
from clarkia.processes import Gaussian, Mixed, Process, Time
from clarkia.random import Noise
from clarkia.spaces import State


@torch.no_grad()
def elbo(
    denoiser: Denoiser,
    process: Process,
    x: State,
    *,
    num_draws: int = 32,
    num_steps: int | None = None,
    estimator: Literal["count", "time"] | None = None,
    reconstruction: Literal["gaussian", "discretised"] = "gaussian",
    bin_width: float | Tensor | None = None,
    generator: Noise = None,
) -> Likelihood:
    """Lower bound on the log-probability of each row, from stratified draws of time and noise.

    Args:
        denoiser: ``denoiser(x_t, t) -> prediction``.
        process: Gaussian, masked, a mixture path, or `Mixed` with variance-exploding continuous blocks ``(n, p)``.
        x: Clean rows, ``(n, ...)`` or a dict of blocks.
        num_draws: Calls of the denoiser, an even number; all rows take part in each.
        num_steps: None for the bound in continuous time, or T for that of a sampler with T steps: on an even grid of
            log-SNR (``schedules.log_snr``) for a Gaussian process, an even grid of times for a discrete one.
        estimator: Of the masked bound in continuous time: ``"count"`` draws how many cells are masked, ``"time"`` when.
            By default ``"count"``, unless positions have schedules of their own.
        reconstruction: Of a Gaussian process: ``"gaussian"`` bounds the log-density at x, with a decoder of the
            process's least noise; ``"discretised"`` the log-probability of the bin of width ``bin_width`` around x, as
            for pixels.
        bin_width: Of the latter; one number or broadcastable against a data point.
        generator: Source of randomness.

    Returns:
        Nats with the standard error of each row's draws.

    Raises:
        ValueError: Data that do not fit the process, a wrong argument, or a denoiser that answers with a wrong shape
            or a number that is not finite; that sentence names the time.

    Sources: Variational Diffusion Models (2021); Simple and Effective Masked Diffusion Language Models (2024); Your
    Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024); Discrete Diffusion
    Modeling by Estimating the Ratios of the Data Distribution (2024).
    """
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1 or None, found {num_steps}.")
    if num_draws < 2 or num_draws % 2:
        raise ValueError(f"num_draws: expected an even number of at least 2, found {num_draws}.")
    if estimator not in ("count", "time", None):
        raise ValueError(f"estimator: expected 'count' or 'time', found {estimator!r}.")
    width = _bin_width(process, reconstruction, bin_width)
    if isinstance(process, Mixed):
        if num_steps is not None:
            raise ValueError(f"num_steps: expected None for a mixed process, found {num_steps}.")
        return _mixed_elbo(denoiser, process, x, num_draws, generator)
    check_data(process, x)
    draws = {"num_draws": num_draws, "num_steps": num_steps, "generator": generator}
    if isinstance(process, Gaussian):
        if estimator is not None:
            raise ValueError(f"estimator: expected None for a Gaussian process, found {estimator!r}.")
        return gaussian_elbo(denoiser, process, x, bin_width=width, **draws)  # type: ignore[arg-type]
    return discrete_elbo(denoiser, process, x, estimator=estimator, **draws)  # type: ignore[arg-type]


def _bin_width(process: Process, reconstruction: str, bin_width: float | Tensor | None) -> float | Tensor | None:
    if reconstruction not in ("gaussian", "discretised"):
        raise ValueError(f"reconstruction: expected 'gaussian' or 'discretised', found {reconstruction!r}.")
    if reconstruction == "gaussian":
        if bin_width is not None:
            raise ValueError("bin_width: expected None with a Gaussian reconstruction; ask for 'discretised'.")
        return None
    if not isinstance(process, Gaussian):
        raise ValueError(f"reconstruction: expected a Gaussian process to discretise, found {type(process).__name__}.")
    if bin_width is None or not bool((torch.as_tensor(bin_width) > 0).all()):
        raise ValueError(f"bin_width: expected a positive width of the bins, found {bin_width}.")
    return bin_width


def _mixed_elbo(denoiser: Denoiser, process: Mixed, x: State, num_draws: int, generator: Noise) -> Likelihood:
    """Replicates of the mixed objective's own one-draw bound."""
    first = 0
    columns = {}
    for name, part, block in process.each(x, "x"):
        check_data(part, block, f"x[{name!r}]")
        if block.ndim != 2:
            raise ValueError(f"x[{name!r}]: expected shape (n, p), found {tuple(block.shape)}.")
        columns[name] = torch.arange(first, first + block.shape[1])
        first += block.shape[1]
    objective = MixedDenoising(process, columns, subset_probability=0.0)
    draws = torch.stack([objective.elbo(_checked(denoiser, process), x, generator) for _ in range(num_draws)])  # type: ignore[arg-type]
    return Likelihood(draws.mean(0), draws.std(0) / math.sqrt(num_draws), "bound")


def _checked(denoiser: Denoiser, process: Mixed) -> Denoiser:
    """The denoiser with its answers checked at every call."""

    def denoise(x_t: State, t: Time) -> State:
        answer = denoiser(x_t, t)
        check_prediction(answer, x_t, t, process)
        return answer

    return denoise
