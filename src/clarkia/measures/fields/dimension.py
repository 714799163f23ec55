"""On how many dimensions do the data lie near a point, as a learned field sees it?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from clarkia._math.jacobians import along, jacobian
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import (
    at_level,
    check_count,
    check_gaussian,
    check_levels,
    check_points,
    in_state_precision,
)
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn

HALF = 0.5  # between directions along the data, at 1 (or slope 0), and across them, at 0 (or slope 1)


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """What `intrinsic_dimension` found, for n points at m noise levels.

    Attributes:
        dimension: The count that the most noise levels agree on (the larger one in a draw), ``(n,)``.
        noise_levels: Ratios sigma / alpha, decreasing, float64 ``(m,)``.
        profile: Number of directions along the data at each level, ``(m, n)``.
        spectrum: What was counted, in decreasing order, float64 ``(m, n, d)``: eigenvalues of ``alpha`` times the
            symmetrised Jacobian, or singular values of the flow's Jacobian from the first level to this one.
    """

    dimension: Int64[Tensor, " n"]
    noise_levels: Float64[Tensor, " m"]
    profile: Int64[Tensor, "m n"]
    spectrum: Float64[Tensor, "m n d"]

    @property
    def soft(self) -> Float64[Tensor, "m n"]:
        """Sum of the spectrum; for the Jacobian the trace, a count without a threshold that no rotation changes."""
        return self.spectrum.sum(2)


@torch.no_grad()
def intrinsic_dimension(
    denoiser: Denoiser,
    process: Gaussian,
    x: Float[Tensor, "n ..."],
    *,
    method: Literal["jacobian", "flow"] = "jacobian",
    noise_levels: Any = None,
    num_steps: int = 20,
    generator: Noise = None,
) -> IntrinsicDimension:
    """Local dimension of the data at clean points, with its whole profile over noise levels.

    ``"jacobian"``: eigenvalues of the symmetrised Jacobian of the denoiser at noised points, near 1 along the data and
    near 0 across; those above one half count. Without the symmetrisation a field's rotation would be counted too.
    ``"flow"``: points noised to the first level are carried down the probability-flow equation with their Jacobian;
    a singular value that no longer shrinks with the noise (less than half as fast, in logarithms, between two levels)
    lies along the data. At levels below what a network has learned, both measure its error: read the profile.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable.
        process: The Gaussian process it is made for.
        x: Clean points, ``(n, ...)`` with d elements each.
        method: ``"jacobian"`` or ``"flow"``.
        noise_levels: Ratios sigma / alpha that the process reaches; eight from 0.5 to 0.01 times the spread of ``x``
            (root mean variance of its elements; 1 for a single point) where None. The flow needs two.
        num_steps: Fourth-order Runge-Kutta steps of the flow between two levels.
        generator: Source of the noise.

    Returns:
        Dimension of each point, and the spectrum and count behind it at every level. For ``"flow"`` a count belongs to
        the interval above its level, and the first level repeats the second's.

    Raises:
        ValueError: A process that is not Gaussian, points that are not finite rows, levels out of the process's reach,
            an unknown method.

    Source: On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models (2024).
    """
    check_gaussian(process)
    x = check_points(x, "x")
    if method not in ("jacobian", "flow"):
        raise ValueError(f"method: expected 'jacobian' or 'flow', found {method!r}.")
    levels = _default_levels(x) if noise_levels is None else noise_levels
    levels = check_levels(levels, process, least=1 if method == "jacobian" else 2)
    denoiser = in_state_precision(denoiser)
    noise = randn(x.shape, generator, dtype=x.dtype, device=x.device)
    if method == "jacobian":
        spectrum = torch.stack([_eigenvalues(denoiser, process, x + level * noise, level) for level in levels])
        profile = (spectrum > HALF).sum(2)
    else:
        steps = check_count(num_steps, "num_steps")
        spectrum = _flow_spectrum(denoiser, process, x + levels[0] * noise, levels, steps)
        slopes = spectrum.log().diff(dim=0) / levels.log().diff().reshape(-1, 1, 1).to(x.device)
        profile = (slopes < HALF).sum(2)
        profile = torch.cat([profile[:1], profile])
    agreed = torch.nn.functional.one_hot(profile, x[0].numel() + 1).sum(0)
    dimension = agreed.shape[1] - 1 - agreed.flip(1).argmax(1)
    return IntrinsicDimension(dimension, levels, profile, spectrum)


def _eigenvalues(denoiser: Denoiser, process: Gaussian, y: Tensor, level: Tensor) -> Tensor:
    """Eigenvalues of the symmetrised Jacobian of the prediction in ``y = x_t / alpha``, decreasing."""
    t, _ = at_level(process, level.to(y.device), y)

    def predict(point: Tensor, time: Tensor) -> Tensor:
        return denoiser(process.coefficients(time, point)[0] * point, time)

    matrix = jacobian(predict, y, t).double()
    return torch.linalg.eigvalsh(0.5 * (matrix + matrix.mT)).flip(1)


def _flow_spectrum(denoiser: Denoiser, process: Gaussian, y: Tensor, levels: Tensor, steps: int) -> Tensor:
    """Singular values of the flow's Jacobian in ``y = x_t / alpha`` from the first level to each."""
    n, d = len(y), y[0].numel()
    y = y.repeat_interleave(d, 0)  # every row once for each direction
    tangent = torch.eye(d, dtype=y.dtype, device=y.device).repeat(n, 1).reshape(y.shape)
    found = [torch.linalg.svdvals(tangent.reshape(n, d, d).double())]

    def slope(point: Tensor, log_level: float) -> Tensor:
        """``dy / d log kappa = y - x0_hat``."""
        t, alpha = at_level(process, torch.tensor(math.exp(log_level), dtype=torch.float64, device=y.device), point)
        return point - denoiser(alpha * point, t)

    for high, low in pairwise(levels.log().tolist()):
        h = (low - high) / steps
        for step in range(steps):
            y, tangent = along(_runge_kutta(slope, high + step * h, h), (y,), (tangent,))
        found.append(torch.linalg.svdvals(tangent.reshape(n, d, d).double()))
    return torch.stack(found)


def _runge_kutta(slope: Any, at: float, h: float) -> Any:
    """The classical step of fourth order as a function of the state."""

    def step(y: Tensor) -> Tensor:
        first = slope(y, at)
        second = slope(y + 0.5 * h * first, at + 0.5 * h)
        third = slope(y + 0.5 * h * second, at + 0.5 * h)
        fourth = slope(y + h * third, at + h)
        return y + h / 6 * (first + 2 * second + 2 * third + fourth)

    return step


def _default_levels(x: Tensor) -> Tensor:
    spread = float(x.double().flatten(1).var(0).mean().sqrt()) if len(x) > 1 else 1.0
    return (spread if spread > 0 else 1.0) * torch.logspace(math.log10(0.5), -2, 8, dtype=torch.float64)
