"""Distance of characteristic functions, at random frequencies or at frequencies that find the difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import CHUNK, blocks, checkpointed, median_distance, safe_power
from clarkia.measures.inputs import at_least, features, lazy_pair, shuffled
from clarkia.measures.two_sample.frequencies import (
    GaussianFrequencies,
    LearnedFrequencies,
    network_frequencies,
    new_network,
)
from clarkia.random import Noise, randn

Frequencies = GaussianFrequencies | LearnedFrequencies | Tensor


def characteristic_distance(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    frequencies: Frequencies | None = None,
    n_frequencies: int = 4096,
    alpha: float = 0.5,
    beta: float = 0.5,
    power: int = 1,
    chunk: int = CHUNK,
    generator: Noise = None,
) -> Float64[Tensor, ""]:
    """Mean over frequencies t of how far the characteristic functions ``phi(t) = E exp(i t.x)`` of two sets are apart.

    With the amplitude gap ``A = (|phi_X| - |phi_Y|)^2`` and the phase gap ``P = |phi_X - phi_Y|^2 - A``:
    ``mean sqrt(alpha A + beta P)`` for power 1, ``mean 2 (alpha A + beta P)`` for power 2. At alpha = beta = 1/2 these
    are ``mean |phi_X - phi_Y| / sqrt(2)`` and ``mean |phi_X - phi_Y|^2``; the latter is, for Gaussian frequencies of
    scale s, the biased squared discrepancy of a Gaussian kernel of bandwidth 1/s. More alpha weighs spread, more beta
    location. Lower is better; 0 for equal sets, but for two samples of one law ``|phi_X - phi_Y|^2`` is about
    ``(1/n + 1/m)(1 - |phi|^2)``. Differentiable.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        frequencies: `GaussianFrequencies` (the default, at one over the median distance), `LearnedFrequencies`, or the
            frequencies themselves, ``(r, d)``.
        n_frequencies: How many are drawn; a network learns and is read with as many.
        alpha: Weight of the amplitudes, at least 0.
        beta: Weight of the phases, at least 0.
        power: 1 or 2. Gradients near convergence are calmer with 2.
        chunk: Rows of a block.
        generator: Source of the frequencies, and of the halves of learned ones.

    Returns:
        A float64 number without unit.

    Raises:
        ValueError: Different widths, values that are not finite, weights, a power or a count out of range, or fewer
            than 2 rows for learned frequencies.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """
    x, y = lazy_pair(x, y)
    if power not in (1, 2):
        raise ValueError(f"power: expected 1 or 2, found {power}.")
    if min(alpha, beta) < 0 or alpha + beta == 0:
        raise ValueError(f"alpha: expected weights >= 0, not both 0, found alpha={alpha}, beta={beta}.")
    if n_frequencies < 1:
        raise ValueError(f"n_frequencies: expected at least 1, found {n_frequencies}.")

    def distance(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        amplitude, phase = gaps(x, y, t, chunk=chunk)
        squared = alpha * amplitude + beta * phase
        return 2 * squared.mean() if power == 2 else safe_power(squared, 0.5).mean()

    if isinstance(frequencies, LearnedFrequencies):
        for rows, name in ((x, "x"), (y, "y")):
            at_least(rows, 2, name, "for two halves")
        (x_fit, x), (y_fit, y) = (_halves(rows, generator) for rows in (x, y))
        t = _learned(distance, x_fit.detach().double(), y_fit.detach().double(), frequencies, n_frequencies, generator)
    elif isinstance(frequencies, Tensor):
        t = features(frequencies, "frequencies").to(x.device)
        if t.shape[1] != x.shape[1]:
            raise ValueError(f"frequencies: expected {x.shape[1]} columns as x has, found {t.shape[1]}.")
    else:
        scale = None if frequencies is None else frequencies.scale
        scale = 1 / median_distance(x, y) if scale is None else scale
        t = scale * randn((n_frequencies, x.shape[1]), generator, dtype=torch.float64).to(x.device)
    return distance(x, y, t)


def _learned(
    distance: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    options: LearnedFrequencies,
    count: int,
    generator: Noise,
) -> Tensor:
    """Frequencies of a network that has climbed the distance of ``x`` and ``y``."""
    d = x.shape[1]
    unit = (2 * d) ** 0.5 / median_distance(x, y)
    weights = new_network(d, generator, x)
    optimiser = torch.optim.Adam([part for layer in weights for part in layer], lr=options.learning_rate)
    with torch.enable_grad():
        for _ in range(options.steps):
            optimiser.zero_grad()
            t = unit * network_frequencies(weights, count, options.bound, generator)
            (-distance(x, y, t)).backward()
            optimiser.step()
    with torch.no_grad():
        return unit * network_frequencies(weights, count, options.bound, generator)


def characteristic_function(
    x: Float64[Tensor, "n d"], t: Float64[Tensor, "r d"], *, chunk: int = CHUNK
) -> tuple[Float64[Tensor, " r"], Float64[Tensor, " r"]]:
    """Real and imaginary part of ``mean exp(i t.x)`` over the rows of ``x`` ``(n, d)`` at frequencies ``(r, d)``."""
    sums = [checkpointed(_wave_sums, rows, t, whole=len(x) <= chunk) for _, rows in blocks(x, chunk)]
    real, imaginary = torch.stack(sums).sum(0) / len(x)
    return real, imaginary


def gaps(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], t: Float64[Tensor, "r d"], *, chunk: int = CHUNK
) -> tuple[Float64[Tensor, " r"], Float64[Tensor, " r"]]:
    """Amplitude and phase gaps of the characteristic functions of two sets, each ``(r,)``.

    ``(|phi_X| - |phi_Y|)^2`` and ``2 (|phi_X||phi_Y| - Re phi_X conj(phi_Y))``. They add up to ``|phi_X - phi_Y|^2``;
    the phase gap is taken from that sum, so that it is exactly 0 for equal sets.
    """
    (real_x, imaginary_x), (real_y, imaginary_y) = (characteristic_function(z, t, chunk=chunk) for z in (x, y))
    amplitude_x, amplitude_y = (
        safe_power(real.square() + imaginary.square(), 0.5)
        for real, imaginary in ((real_x, imaginary_x), (real_y, imaginary_y))
    )
    amplitude = (amplitude_x - amplitude_y).square()
    whole = (real_x - real_y).square() + (imaginary_x - imaginary_y).square()
    return amplitude, (whole - amplitude).clamp_min(0)


def _wave_sums(rows: Tensor, t: Tensor) -> Tensor:
    angles = rows.double() @ t.T
    return torch.stack([angles.cos().sum(0), angles.sin().sum(0)])


def _halves(rows: Tensor, generator: Noise) -> tuple[Tensor, Tensor]:
    order = shuffled(len(rows), generator, rows.device)
    return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
