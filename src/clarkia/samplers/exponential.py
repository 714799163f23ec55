"""Exponential integrators in data prediction: the one formula behind every multistep solver.

With ``lambda = log(alpha / sigma)`` the reverse equation of stochasticity eta is solved exactly from time t to s if the
prediction is a polynomial in lambda:

    x_s = (sigma_s / sigma_t) e^(-eta h) x_t + alpha_s sum_j w_j x0_hat_j + sigma_s sqrt(1 - e^(-2 eta h)) z

with ``h = lambda_s - lambda_t`` and ``c = (1 + eta) h``. On the step's own axis ``u = (lambda - lambda_t) / h`` the
weights integrate the Lagrange polynomials of the nodes against ``c e^(-c (1 - u))`` over [0, 1]. They are computed on
the host in float64, element by element, so that every row and column may have its own times.

Sources: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (2022); UniPC: A Unified
Predictor-Corrector Framework for Fast Sampling of Diffusion Models (2023); SA-Solver: Stochastic Adams Solver for Fast
Sampling of Diffusion Models (2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clarkia.processes import Gaussian, GaussianKernel, spread
from clarkia.processes.gaussian import Array

Variant: TypeAlias = Literal["exact", "midpoint", "bh1", "published"]
"""How `exponential_weights` integrates; all but the first are shortcuts for one number of nodes, exact at any other."""

Node: TypeAlias = tuple[Tensor, Tensor]
"""A prediction and its time."""

REACH = 4.5
"""How far the multistep solvers extrapolate by default: three even nodes up to steps of 1.7 in lambda.

In the limit of small steps the sum is 11/3 for three nodes (Adams and Bashforth's weights): the order is not touched.
"""

_TERMS = np.arange(18)
_FACTORIALS = np.array([math.factorial(j) for j in _TERMS], float)


def exponential_weights(
    nodes: Sequence[ArrayLike],
    start: ArrayLike,
    end: ArrayLike,
    eta: ArrayLike = 0.0,
    variant: Variant = "exact",
    reach: float = math.inf,
) -> tuple[Array, list[Array], Array]:
    """Factors of one step from ``lambda = start`` to ``end``: of the state, of each prediction, of the noise.

    The step is ``x_s = (sigma_s / sigma_t) decay x_t + alpha_s sum_j weights[j] x0_hat[j] + sigma_s noise z``.

    Args:
        nodes: Lambda of each prediction, the current one first; arrays that broadcast with ``start``.
        start: Lambda of the state, minus infinity where alpha is 0.
        end: Lambda to go to, infinity where sigma is 0; elements with ``end <= start`` do not move.
        eta: Stochasticity: 0 the probability-flow equation, 1 the reverse diffusion, any non-negative number.
        variant: ``"exact"``, or a shortcut: ``"midpoint"`` (with two nodes, the mean of u taken for 1/2, which
            extrapolates less over a long step), ``"bh1"`` (with two nodes, its integral taken for c/2), ``"published"``
            (with three nodes, half the second moment, which is of order 2 only).
        reach: Largest sum of absolute weights, relative to their sum, with which predictions may be extrapolated;
            beyond it the last nodes are left out, down to two.

    Returns:
        ``decay``, a weight a node, and ``noise``. A node at infinite lambda has no weight unless no other is left.
    """
    start, end, eta = (np.asarray(value, float) for value in (start, end, eta))
    moving = end > start
    with np.errstate(invalid="ignore"):  # an observed element stays at infinity
        h = np.where(moving, end - start, 0.0)
    rho = np.exp(-h)
    decay, noise = np.power(rho, eta), np.sqrt(1 - np.power(rho, 2 * eta))
    c = (1 + eta) * h
    total = -np.expm1(-c)
    if len(nodes) == 1:
        return decay, [total], noise
    proper = moving & np.isfinite(h)
    places = step_places(nodes, start, np.where(proper, h, 1.0), proper)
    shares = _shares(places, np.where(proper, c, 1.0), variant, reach)
    if not proper.all():
        # Where an end of the step is at infinity, the cleanest prediction that is not there stands for all.
        lambdas = np.stack(np.broadcast_arrays(*nodes, start)[:-1])
        alone = np.where(np.isfinite(lambdas), lambdas, -np.inf).argmax(0)
        shares = [np.where(proper, share, alone == j) for j, share in enumerate(shares)]
    return decay, [total * share for share in shares], noise


def _shares(places: Sequence[Array], c: Array, variant: Variant, reach: float) -> list[Array]:
    """The integrals of the nodes' Lagrange polynomials over the step, as far as they may be extrapolated."""
    count = len(places)
    moments = exponential_moments(c, count)
    if variant == "published" and count == 3:
        moments[2] = 0.5 * moments[2]
    elif variant == "midpoint" and count == 2:
        moments[1] = np.full_like(moments[1], 0.5)
    elif variant == "bh1" and count == 2:
        moments[1] = 0.5 * c / -np.expm1(-c)
    shares = interpolation_shares(places, moments)
    if count == 2 or reach == math.inf:
        return shares
    far = sum((np.abs(share) for share in shares), np.zeros(())) > reach
    if not far.any():
        return shares
    fewer = [*_shares(places[:-1], c, variant, reach), np.zeros_like(shares[-1])]
    return [np.where(far, little, share) for little, share in zip(fewer, shares, strict=True)]


def step_places(nodes: Sequence[ArrayLike], start: Array, length: Array, proper: NDArray[np.bool_]) -> list[Array]:
    """Where nodes stand on a step's own axis, 0 its start and 1 its end; infinite where they are to be left out."""
    finite = [proper & np.isfinite(node) for node in nodes]
    first = np.where(proper, start, 0.0)
    return [
        np.where(live, (np.where(live, node, 0.0) - first) / length, np.inf)
        for node, live in zip(nodes, finite, strict=True)
    ]


def exponential_moments(c: ArrayLike, count: int) -> list[Array]:
    """Means of ``u^k``, k below ``count``, under the density proportional to ``e^(c u)`` on [0, 1]; c may be negative.

    The recursion from below loses digits at small c and the one from above at large c, so each has its range.
    """
    c = np.asarray(c, float)
    small = np.abs(c) < 1
    moments: list[Array] = [np.ones_like(c)]
    if not small.all():
        large = np.where(small, 1.0, c)
        rising = [-np.expm1(-large)]
        for k in range(1, count):
            rising.append(1 - k * rising[-1] / large)
        moments = [value / rising[0] for value in rising]
    if small.any():
        little = np.where(small, c, 0.0)
        series = (little[..., None] ** _TERMS) @ (1 / (_FACTORIALS * (_TERMS + count)))
        falling = [np.exp(-little) * series]  # everything divided by c
        for k in range(count - 1, 0, -1):
            falling.append((1 - little * falling[-1]) / k)
        ratios = [value / falling[-1] for value in reversed(falling)]
        moments = ratios if small.all() else [np.where(small, a, b) for a, b in zip(ratios, moments, strict=True)]
    return moments


def interpolation_shares(places: Sequence[Array], moments: Sequence[Array]) -> list[Array]:
    """Integrals of the Lagrange polynomials of the nodes against a density with the given moments.

    Args:
        places: Where each node stands, infinite where it is to be left out; of several at one place the first counts.
        moments: The density's moments, from the zeroth.

    Returns:
        A share a node, one in sum where any node is left.
    """
    live = [np.isfinite(place) for place in places]
    for i, j in combinations(range(len(places)), 2):
        live[j] = live[j] & (places[i] != places[j])
    places = [np.where(there, place, 0.0) for place, there in zip(places, live, strict=True)]
    shares = []
    for j, place in enumerate(places):
        polynomial = [np.ones_like(moments[0])]  # lowest coefficient first
        for i, other in enumerate(places):
            if i != j:
                both = live[i] & live[j]
                slope = both / np.where(both, place - other, 1.0)
                polynomial = _times_line(polynomial, np.where(both, -other * slope, 1.0), slope)
        share = sum(coefficient * moment for coefficient, moment in zip(polynomial, moments, strict=True))
        shares.append(np.where(live[j], share, 0.0))
    return shares


def exponential_step(
    process: Gaussian,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    nodes: Sequence[Node],
    eta: float | Tensor = 0.0,
    variant: Variant = "exact",
    reach: float = math.inf,
) -> GaussianKernel:
    """The law of ``x_s`` given ``x_t`` and predictions at several times, the current one first.

    Args:
        process: A Gaussian process.
        x: State at time t, ``(n, ...)``.
        t: Its time, ``(n,)`` or element-wise.
        s: Time to go to.
        nodes: Predictions with their times.
        eta: Stochasticity, one number or as a time ``(n,)`` or element-wise.
        variant: As `exponential_weights`.
        reach: As `exponential_weights`.
    """
    times = (t, s, *(time for _, time in nodes))
    known = None if isinstance(eta, Tensor) else process.shared_scales(*times)
    if known is not None:
        keep, weights, std = _shared_factors(*known, eta, variant, reach)  # type: ignore[arg-type]
    else:
        stochasticity = spread(eta, x, "eta").cpu().numpy() if isinstance(eta, Tensor) else eta
        keep, weights, std = _factors(*process.scales(x, *times), stochasticity, variant, reach)
    mean = factor(keep, x) * x
    for weight, (prediction, _) in zip(weights, nodes, strict=True):
        mean = plus(mean, weight, prediction)
    return GaussianKernel(mean, width(std, x))


def _factors(
    alpha: Array, sigma: Array, eta: ArrayLike, variant: Variant, reach: float
) -> tuple[Array, list[Array], Array]:
    """Factors of the state and of the predictions, and the noise, of a step between the first two of several scales."""
    with np.errstate(divide="ignore"):
        start, end, *places = np.log(alpha) - np.log(sigma)
    decay, weights, noise = exponential_weights(places, start, end, eta, variant, reach)
    moving = end > start
    shrink = np.where(moving, sigma[1] / np.where(moving, sigma[0], 1.0), 1.0)
    return shrink * decay, [alpha[1] * weight for weight in weights], sigma[1] * noise


@lru_cache(4096)
def _shared_factors(
    alpha: tuple[float, ...], sigma: tuple[float, ...], eta: float, variant: Variant, reach: float
) -> tuple[float, tuple[float, ...], float]:
    """`_factors` where all rows share their times; every batch of a grid takes the same steps, so they are kept."""
    keep, weights, std = _factors(np.array(alpha), np.array(sigma), eta, variant, reach)
    return float(keep), tuple(float(weight) for weight in weights), float(std)


def lean(value: Array) -> float | Array:
    """One number for all rows as a float."""
    return value.item() if value.size == 1 else value


def factor(value: float | Array, x: Tensor) -> Tensor | float:
    """A coefficient in the form that multiplies a state fastest."""
    return value if isinstance(value, float) else torch.as_tensor(value).to(x)


def plus(x: Tensor, weight: float | Array, other: Tensor) -> Tensor:
    """``x + weight other``."""
    if isinstance(weight, float):
        return torch.add(x, other, alpha=weight)
    return torch.addcmul(x, torch.as_tensor(weight).to(x), other)


def width(value: float | Array, x: Tensor) -> Tensor:
    """A standard deviation as a tensor that broadcasts against a state."""
    if isinstance(value, float):
        return torch.full((1,) * x.ndim, value, dtype=x.dtype, device=x.device)
    return torch.as_tensor(value).to(x)


def _times_line(polynomial: list[Array], constant: Array, slope: Array) -> list[Array]:
    """The coefficients of ``polynomial * (constant + slope u)``, lowest first."""
    low = [constant * coefficient for coefficient in polynomial]
    high = [slope * coefficient for coefficient in polynomial]
    return [low[0], *(a + b for a, b in zip(low[1:], high[:-1], strict=True)), high[-1]]
