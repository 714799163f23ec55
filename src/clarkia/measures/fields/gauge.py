"""Is a learned field a gradient, is that gradient the score, and does the rest matter?

Every square-integrable field splits in one way into ``s = grad phi + r`` with ``div(p r) = 0``. The samplers' laws do
not depend on ``r``; they are right exactly where ``grad phi`` is the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

from clarkia._math.jacobians import Field, jacobian, jvp, normal, vjp_rows
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import check_count, check_gaussian, check_noisy, check_points, in_state_precision
from clarkia.measures.fields.waves import draw_waves, polynomial_gradients
from clarkia.processes import Gaussian


@torch.no_grad()
def conservativity(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " n"]:
    """Size of the curl of the score field, ``|J - J^T|^2 / |J|^2`` in squared Frobenius norms.

    0 for a gradient, 4 for a pure rotation. A curl alone says nothing about the samples: see `stein_test`.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable.
        process: The Gaussian process it is made for.
        x_t: Noisy states, ``(n, ...)``.
        t: Times in (0, 1], ``(n,)`` or one.
        probes: Number of random directions a row that estimate both norms; None for the whole Jacobian.
        generator: Source of the directions.

    Returns:
        One number a state, ``(n,)``.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range.

    Source: On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models (2024).
    """
    x_t, t = _states(process, x_t, t)
    score = _score(denoiser, process)
    if probes is None:
        there = jacobian(score, x_t, t)
        back = there.mT
    else:
        directions = normal(x_t, check_count(probes, "probes"), generator)
        there, back = (product(score, x_t, t, directions) for product in (jvp, vjp_rows))
    return (there - back).flatten(1).square().sum(1) / there.flatten(1).square().sum(1)


KEPT = 0.01  # least variance of a combination of test functions, of the largest one's


@dataclass(frozen=True, eq=False)
class SteinTest:
    """What `stein_test` found.

    Attributes:
        mean: Mean of ``s . grad psi + lap psi`` for each test function, float64 ``(m,)``; 0 for the right field.
        standard_error: Of each mean, float64 ``(m,)``.
        p_value: Of all of them together (Hotelling's test): the chance of means this far from 0 for the right field.
    """

    mean: Float64[Tensor, " m"]
    standard_error: Float64[Tensor, " m"]
    p_value: float

    @property
    def z(self) -> Float64[Tensor, " m"]:
        """Means in standard errors."""
        return self.mean / self.standard_error


@torch.no_grad()
def stein_test(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    num_functions: int = 20,
    bandwidth: float = 1.0,
    generator: torch.Generator | None = None,
) -> SteinTest:
    """Test whether the gradient part of a field is the score of the law of ``x_t``, without knowing that score.

    For the score, and for it plus any field that leaves the law unchanged, ``E[s . grad psi + lap psi] = 0`` for every
    smooth ``psi``; here for ``|x|^2 / 2`` about the mean, which sees a score of the wrong size, and random plane
    waves.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``.
        process: The Gaussian process it is made for.
        x_t: Independent noisy states, ``(n, ...)``: data put through the process.
        t: Their times in (0, 1], ``(n,)`` or one.
        num_functions: Number of test functions, below n - 1: the square and waves.
        bandwidth: Length of the waves over the spread of ``x_t`` (root of its total variance); shorter ones see finer
            error.
        generator: Source of the test functions.

    Returns:
        Means with their standard errors, and the p-value of all together.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range, a count out of range.

    Source: On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models (2024).
    """
    x_t, t = _states(process, x_t, t, least=3)
    n, m = len(x_t), check_count(num_functions, "num_functions", most=len(x_t) - 2)
    field = _score(denoiser, process)(x_t, t).double().flatten(1)
    points = x_t.double().flatten(1)
    waves = draw_waves(points, m - 1, _positive(bandwidth, "bandwidth"), generator)
    square = (field * (points - points.mean(0))).sum(1, keepdim=True) + points.shape[1]
    terms = torch.cat([square, waves.along(points, field) + waves.laplacian(points)], 1)
    mean, spread = terms.mean(0), terms.std(0).clamp(min=1e-300)
    values, vectors = torch.linalg.eigh((terms / spread).T.cov().reshape(m, m))
    # Waves that are alike on these points leave combinations of little variance, whose tails are far from normal.
    kept = values > KEPT * values[-1]
    hotelling = n * ((mean / spread @ vectors)[kept].square() / values[kept]).sum()
    rank = int(kept.sum())
    p_value = float(stats.f.sf(float(hotelling) * (n - rank) / (rank * (n - 1)), rank, n - rank))
    return SteinTest(mean, spread / n**0.5, p_value)


@dataclass(frozen=True, eq=False)
class GaugeDecomposition:
    """What `gauge_decomposition` found.

    Attributes:
        rotation_share: ``E|r|^2 / E|s|^2``, the part of the field that is not the gradient of the fitted potential.
        standard_error: Of that share.
        violation: ``E[r . grad psi]`` over ``sqrt(E|r|^2 E|grad psi|^2)`` for fresh test functions, float64 ``(m,)``:
            0 where the rest leaves the law unchanged.
        violation_error: Standard error of each, float64 ``(m,)``.
        gradient: The fitted ``grad phi``, a function of points ``(n, ...)``.
    """

    rotation_share: float
    standard_error: float
    violation: Float64[Tensor, " m"]
    violation_error: Float64[Tensor, " m"]
    gradient: Callable[[Tensor], Tensor]


@torch.no_grad()
def gauge_decomposition(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    num_features: int = 300,
    num_functions: int = 20,
    bandwidth: float = 1.0,
    generator: torch.Generator | None = None,
) -> GaugeDecomposition:
    """Split a field at one time into the gradient of a potential and a rest.

    The potential is a sum of quadratics and of random plane waves on three octaves, fitted by least squares on one half
    of the states and judged on the other, both ways; the penalty on the waves is the one that does best there. What
    the family cannot express counts as rest: more features, or the violation, tell how much that is.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``.
        process: The Gaussian process it is made for.
        x_t: Independent noisy states of one time, ``(n, ...)``.
        t: That time, in (0, 1], one number or ``(n,)``.
        num_features: Number of waves in the potential.
        num_functions: Number of test functions of the violation.
        bandwidth: Length of the longest waves over the spread of ``x_t``.
        generator: Source of waves.

    Returns:
        Share of the rest, its violation of the gauge condition, and the fitted gradient.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range, times that differ, a
            count out of range.

    Source: On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models (2024).
    """
    x_t, t = _states(process, x_t, t, least=4)
    if bool((t != t[0]).any()):
        raise ValueError(f"t: expected one time for all states, found {float(t.min()):g} to {float(t.max()):g}.")
    field = _score(denoiser, process)(x_t, t).double().flatten(1)
    points = x_t.double().flatten(1)
    shape, n = x_t.shape[1:], len(x_t)
    bandwidth, count = _positive(bandwidth, "bandwidth"), check_count(num_features, "num_features")
    waves = draw_waves(points, count, bandwidth, generator, scales=3)

    def features(x: Tensor) -> Tensor:
        return torch.cat([waves.gradients(x), polynomial_gradients(x)], 1)

    halves = [slice(0, None, 2), slice(1, None, 2)]
    sums = [_normal_equations(features, points[half], field[half]) for half in halves]
    crossed = []
    for one, other in ((0, 1), (1, 0)):
        candidates = _ridge_path(*sums[one], count)
        crossed.append(candidates[_errors(*sums[other], candidates).argmin()])
    rest = torch.empty_like(field)
    for half, weights in zip(halves, reversed(crossed), strict=True):
        rest[half] = field[half] - _combine(features, points[half], weights)
    weights = 0.5 * (crossed[0] + crossed[1])

    size, total = rest.square().sum(1), field.square().sum(1)
    share = size.mean() / total.mean()
    tests = draw_waves(points, check_count(num_functions, "num_functions"), bandwidth, generator)
    along = tests.along(points, rest)
    scale = (size.mean() * tests.gradients(points).square().sum(2).mean(0)).sqrt()
    return GaugeDecomposition(
        rotation_share=float(share),
        standard_error=float((size - share * total).std() / total.mean() / n**0.5),
        violation=along.mean(0) / scale,
        violation_error=along.std(0) / scale / n**0.5,
        gradient=lambda x: _combine(features, x.double().flatten(1), weights).to(x.dtype).unflatten(1, shape),
    )


CHUNK = 256  # rows whose features' gradients are held at once
PENALTIES = 10.0 ** torch.arange(-10, 2)


def _normal_equations(features: Callable[[Tensor], Tensor], x: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """``G = E[grad psi_j . grad psi_k]`` and ``b = E[grad psi_k . s]``, which all least squares need of the points."""
    normal, right = torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
    for rows, values in zip(x.split(CHUNK), field.split(CHUNK), strict=True):
        flat = features(rows).transpose(0, 1).flatten(1)
        normal = normal + flat @ flat.T / len(x)
        right = right + flat @ values.flatten() / len(x)
    return normal, right


def _ridge_path(normal: Tensor, right: Tensor, penalised: int) -> Tensor:
    """Least-squares weights ``(penalties, features)``, the first ``penalised`` features held small by each penalty."""
    scale = normal.diagonal().clamp(min=1e-300).rsqrt()  # gradients of every size are penalised alike
    scaled = normal * scale * scale.unsqueeze(1)
    # The quadratics get the least penalty, which settles only what the points leave open.
    ridge = PENALTIES.to(scaled).unsqueeze(1) * (torch.arange(len(scale), device=scaled.device) < penalised)
    return torch.linalg.solve(scaled + torch.diag_embed(ridge + 1e-12), (right * scale).expand(len(ridge), -1)) * scale


def _errors(normal: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """``E|grad phi - s|^2`` less ``E|s|^2`` of each row of weights."""
    return ((weights @ normal) * weights).sum(1) - 2 * weights @ right


def _combine(features: Callable[[Tensor], Tensor], x: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([torch.einsum("nmd,m->nd", features(rows), weights) for rows in x.split(CHUNK)])


def _states(process: Gaussian, x_t: Tensor, t: Tensor | float, *, least: int = 1) -> tuple[Tensor, Tensor]:
    check_gaussian(process)
    x_t = check_points(x_t, least=least)
    return x_t, check_noisy(t, x_t)


def _score(denoiser: Denoiser, process: Gaussian) -> Field:
    denoise = in_state_precision(denoiser)
    return lambda x, t: process.score(x, denoise(x, t), t)


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a positive number, found {value}.")
    return value
