"""What the measures are for laws that can be integrated: normal laws, from means ``(d,)`` and covariances ``(d, d)``.

They say what an estimate converges to, and prove the estimators.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.linear import square_root

Mean = Float64[Tensor, " d"]
Covariance = Float64[Tensor, "d d"]


def gaussian_kernel_mean(
    mean_x: Mean, covariance_x: Covariance, mean_y: Mean, covariance_y: Covariance, bandwidth: float
) -> Float64[Tensor, ""]:
    """``E exp(-|x - y|^2 / (2 bandwidth^2))`` over two independent normal vectors."""
    gap, eye = mean_x - mean_y, torch.eye(len(mean_x), dtype=torch.float64)
    spread = covariance_x + covariance_y
    inner = gap @ torch.linalg.solve(bandwidth**2 * eye + spread, gap)
    return torch.linalg.det(eye + spread / bandwidth**2).rsqrt() * (-0.5 * inner).exp()


def gaussian_mmd2(
    mean_x: Mean, covariance_x: Covariance, mean_y: Mean, covariance_y: Covariance, bandwidth: float
) -> Float64[Tensor, ""]:
    """Squared discrepancy of two normal laws under a Gaussian kernel."""
    x, y = (mean_x, covariance_x), (mean_y, covariance_y)
    own = gaussian_kernel_mean(*x, *x, bandwidth) + gaussian_kernel_mean(*y, *y, bandwidth)
    return own - 2 * gaussian_kernel_mean(*x, *y, bandwidth)


def gaussian_cauchy_schwarz(
    mean_x: Mean, covariance_x: Covariance, mean_y: Mean, covariance_y: Covariance, bandwidth: float = 0.0
) -> Float64[Tensor, ""]:
    """Cauchy-Schwarz divergence of two normal laws after adding noise ``N(0, bandwidth^2 / 2 I)`` to both, in nats."""
    noise = bandwidth**2 / 2 * torch.eye(len(mean_x), dtype=torch.float64)

    def log_overlap(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        spread, gap = a[1] + b[1], a[0] - b[0]
        return -0.5 * (torch.logdet(2 * math.pi * spread) + gap @ torch.linalg.solve(spread, gap))

    x, y = (mean_x, covariance_x + noise), (mean_y, covariance_y + noise)
    return log_overlap(x, x) + log_overlap(y, y) - 2 * log_overlap(x, y)


def gaussian_entropic_transport(
    mean_x: Mean, covariance_x: Covariance, mean_y: Mean, covariance_y: Covariance, blur: float
) -> Float64[Tensor, ""]:
    """``min E|x - y|^2 + 2 blur^2 KL(plan | product)`` between two normal laws.

    Source: Entropic Optimal Transport between Unbalanced Gaussian Measures has a Closed Form (2020).
    """
    d, s2 = len(mean_x), blur**2
    eye = torch.eye(d, dtype=torch.float64)
    root = square_root(covariance_x)
    inner = square_root(4 * root @ covariance_y @ root + s2**2 * eye)
    gap = (mean_x - mean_y).square().sum() + covariance_x.trace() + covariance_y.trace() - inner.trace()
    return gap + d * s2 * (1 - math.log(2 * s2)) + s2 * torch.logdet(inner + s2 * eye)


def gaussian_sinkhorn_divergence(
    mean_x: Mean, covariance_x: Covariance, mean_y: Mean, covariance_y: Covariance, blur: float
) -> Float64[Tensor, ""]:
    """Sinkhorn divergence of two normal laws with the cost ``|x - y|^2``."""
    x, y = (mean_x, covariance_x), (mean_y, covariance_y)
    own = gaussian_entropic_transport(*x, *x, blur) + gaussian_entropic_transport(*y, *y, blur)
    return gaussian_entropic_transport(*x, *y, blur) - own / 2


def normal_distance(mean: float, deviation: float) -> float:
    """``E|X|`` of ``N(mean, deviation^2)`` on a line; two such means of differences make an energy distance."""
    z = mean / deviation
    density = math.exp(-0.5 * z * z) * math.sqrt(2 / math.pi)
    return deviation * density + mean * math.erf(z / math.sqrt(2))


def normal_energy_distance(mean_x: float, deviation_x: float, mean_y: float, deviation_y: float) -> float:
    """Energy distance of two normal laws on a line."""
    between = normal_distance(mean_x - mean_y, math.hypot(deviation_x, deviation_y))
    own = sum(normal_distance(0.0, math.sqrt(2) * deviation) for deviation in (deviation_x, deviation_y))
    return 2 * between - own


def normal_crps(mean: float, deviation: float, y: float) -> float:
    """Continuous ranked probability score of ``N(mean, deviation^2)`` at an observation."""
    return normal_distance(y - mean, deviation) - deviation / math.sqrt(math.pi)


def normal_polynomial_mmd2(mean_x: float, variance_x: float, mean_y: float, variance_y: float) -> float:
    """Squared discrepancy of two normal laws on a line under ``(x y + 1)^3``: weighted differences of three moments."""

    def moments(m: float, v: float) -> tuple[float, float, float]:
        return m, m * m + v, m**3 + 3 * m * v

    gaps = zip((3, 3, 1), moments(mean_x, variance_x), moments(mean_y, variance_y), strict=True)
    return sum(weight * (a - b) ** 2 for weight, a, b in gaps)


def normal_vendi(deviation: float, bandwidth: float, q: float = 1.0) -> float:
    """Limit of the Vendi score of many rows ``N(0, deviation^2)`` on a line under a Gaussian kernel.

    The kernel's eigenvalues under the law are geometric (Mehler's formula), ``l_i = (1 - r) r^i``.
    """
    a, b = 1 / (4 * deviation**2), 1 / (2 * bandwidth**2)
    r = b / (a + b + math.sqrt(a * a + 2 * a * b))
    if q == 1:
        return math.exp(-math.log(1 - r) - r / (1 - r) * math.log(r))
    if math.isinf(q):
        return 1 / (1 - r)
    return ((1 - r) ** q / (1 - r**q)) ** (1 / (1 - q))
