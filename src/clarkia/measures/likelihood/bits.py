"""Likelihood in bits per dimension, by three routes, of continuous data and of data on levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.elbo import elbo
from clarkia.measures.likelihood.evaluate import check_data
from clarkia.measures.likelihood.flow import log_density
from clarkia.measures.likelihood.immse import immse_log_density
from clarkia.measures.likelihood.result import Kind, Likelihood
from clarkia.processes import Gaussian
from clarkia.random import Noise, rand

Route: TypeAlias = Literal["ode", "elbo", "immse"]

Dequantisation: TypeAlias = Callable[[Tensor, Noise], tuple[Tensor, Tensor]]
"""``dequantise(x, generator) -> (noisy, log_density)``: noise within each row's bin and its log-density ``(n,)``."""


@dataclass(frozen=True)
class UniformNoise:
    """Dequantisation by uniform noise within bins.

    Attributes:
        bin_width: Distance of two levels in the scale of the data, so 2 / 255 for bytes scaled to [-1, 1].

    Raises:
        ValueError: A width that is not positive.
    """

    bin_width: float

    def __post_init__(self) -> None:
        if not 0 < self.bin_width < math.inf:
            raise ValueError(f"bin_width: expected a positive number, found {self.bin_width}.")

    @property
    def shift(self) -> float:
        """Bits per dimension that the scale adds: ``log2(1 / bin_width)``, 6.9944 for bytes scaled to [-1, 1]."""
        return -math.log2(self.bin_width)

    def __call__(self, x: Float[Tensor, "n ..."], generator: Noise = None) -> tuple[Tensor, Float64[Tensor, " n"]]:
        """Noisy rows, and the log-density of the noise."""
        noise = rand(x.shape, generator, device=x.device) - 0.5
        log_density = torch.full((len(x),), -math.log(self.bin_width) * x[0].numel(), dtype=torch.float64)
        return x + (self.bin_width * noise).to(x.dtype), log_density.to(x.device)


def from_levels(
    levels: Int[Tensor, "n ..."], num_levels: int, *, dtype: torch.dtype | None = None
) -> tuple[Float[Tensor, "n ..."], UniformNoise]:
    """Scale whole numbers ``0 .. num_levels - 1`` to [-1, 1], with the dequantisation that fits them.

    Args:
        levels: ``(n, ...)``.
        num_levels: Number of levels, at least 2; 256 for bytes.
        dtype: Of the result; by default torch's.

    Returns:
        ``2 levels / (num_levels - 1) - 1`` and its `UniformNoise`.

    Raises:
        ValueError: A level out of range.
    """
    if num_levels < 2:
        raise ValueError(f"num_levels: expected at least 2, found {num_levels}.")
    whole = levels if levels.is_floating_point() else levels.long()  # bytes cannot be compared with 256
    if levels.is_floating_point() or bool(((whole < 0) | (whole >= num_levels)).any()):
        raise ValueError(
            f"levels: expected whole numbers from 0 to {num_levels - 1}, found dtype {levels.dtype}, "
            f"{levels.min()} to {levels.max()}."
        )
    width = 2 / (num_levels - 1)
    return (levels.double() * width - 1).to(dtype or torch.get_default_dtype()), UniformNoise(width)


@dataclass(frozen=True, eq=False)
class BitsPerDimension:
    """Negative log-likelihoods in bits per dimension; lower is better.

    Numbers of different routes, or with and without dequantisation, do not belong in one table.

    Attributes:
        bits: Of each row, float64 ``(n,)``.
        standard_error: Monte Carlo error of each, ``(n,)``.
        kind: Of the likelihood they come from (see `Likelihood`); with dequantisation never better than ``"bound"``,
            here an upper one.
        method: The route: ``"ode"``, ``"elbo"`` or ``"immse"``.
        dequantised: Whether the bits are of levels rather than of a density.
    """

    bits: Float64[Tensor, " n"]
    standard_error: Float64[Tensor, " n"]
    kind: Kind
    method: Route
    dequantised: bool

    @property
    def mean(self) -> float:
        """Mean of the rows."""
        return float(self.bits.mean())

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo error of that mean over these very rows."""
        return float(self.standard_error.square().sum().sqrt()) / len(self.bits)

    @property
    def sampling_error(self) -> float:
        """Standard error of that mean as an estimate for the law of the rows; NaN for one row."""
        return float(self.bits.std()) / math.sqrt(len(self.bits)) if len(self.bits) > 1 else math.nan


def bits_per_dim(
    denoiser: Denoiser,
    process: Gaussian,
    x: Float[Tensor, "n ..."],
    *,
    method: Route = "ode",
    dequantise: Dequantisation | None = None,
    num_dequantisations: int = 1,
    num_draws: int = 32,
    tolerance: float = 1e-5,
    num_probes: int = 8,
    generator: Noise = None,
) -> BitsPerDimension:
    """Bits per dimension ``-log2 p(x) / D`` of each row.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``.
        process: A Gaussian process.
        x: Clean rows, ``(n, ...)`` with D elements each.
        method: ``"ode"``: `log_density` along the probability flow; ``"elbo"``: the variational bound `elbo`;
            ``"immse"``: `immse_log_density`.
        dequantise: For data on levels: noise within their bins, `UniformNoise` or one that was learned. The bits are
            then an upper bound on those of the levels' probability, on average over the noise.
        num_dequantisations: Noises a row; at least 2 where its error is to be known, else its error is that of the
            likelihood at one noise.
        num_draws: Draws a row of ``"elbo"`` and ``"immse"``.
        tolerance: Of ``"ode"``, nats.
        num_probes: Of ``"ode"`` in more than 16 dimensions.
        generator: Source of randomness.

    Returns:
        Bits with their errors and kind.

    Raises:
        ValueError: An unknown method, or what the route itself refuses.

    Sources: Score-Based Generative Modeling through Stochastic Differential Equations (2021); Variational Diffusion
    Models (2021); Information-Theoretic Diffusion (2023).
    """
    if method not in get_args(Route):
        raise ValueError(f"method: expected one of {list(get_args(Route))}, found {method!r}.")
    if num_dequantisations < 1 or (dequantise is None and num_dequantisations != 1):
        raise ValueError(
            f"num_dequantisations: expected at least 1, and 1 without dequantisation, found {num_dequantisations}."
        )
    check_data(process, x)

    def likelihood(rows: Tensor) -> Likelihood:
        if method == "elbo":
            return elbo(denoiser, process, rows, num_draws=num_draws, generator=generator)
        if method == "immse":
            return immse_log_density(denoiser, process, rows, num_draws=num_draws, generator=generator)
        return log_density(denoiser, process, rows, tolerance=tolerance, num_probes=num_probes, generator=generator)

    if dequantise is None:
        found = likelihood(x)
    else:
        found = _of_levels(likelihood, x, dequantise, num_dequantisations, generator)
    unit = x[0].numel() * math.log(2)
    return BitsPerDimension(-found.nats / unit, found.standard_error / unit, found.kind, method, dequantise is not None)


def _of_levels(
    likelihood: Callable[[Tensor], Likelihood], x: Tensor, dequantise: Any, count: int, generator: Noise
) -> Likelihood:
    """Mean over noises of ``log p(noisy) - log q(noise)``, a lower bound on the log-probability of the levels."""
    nats, errors = [], []
    for _ in range(count):
        noisy, log_noise = dequantise(x, generator)
        found = likelihood(noisy)
        nats.append(found.nats - log_noise)
        errors.append(found.standard_error)
    every = torch.stack(nats)
    # The spread over noises holds the error of each likelihood already.
    error = every.std(0) / math.sqrt(count) if count > 1 else errors[0]
    return Likelihood(every.mean(0), error, "bound")
