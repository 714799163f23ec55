"""DEIS: exponential multistep integration in noise prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.samplers.exponential import (
    Array,
    Node,
    exponential_moments,
    exponential_step,
    factor,
    interpolation_shares,
    lean,
    plus,
    step_places,
)
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True)
class DEIS(Staged):
    """The noise of the last steps' predictions is interpolated, and ``x / alpha`` integrated over ``sigma / alpha``.

    In ``y = x / alpha`` and ``kappa = sigma / alpha`` the probability-flow equation is ``dy = epsilon d kappa``; the
    noise is taken for a polynomial in one of three variables.

    Args:
        order: Nodes, 1 (DDIM) to 4.
        basis: Variable of the polynomial: ``"log_kappa"``, ``"kappa"`` (rhoAB) or ``"time"`` (tAB).

    Source: Fast Sampling of Diffusion Models with Exponential Integrator (2022).
    """

    order: int = 3
    basis: Literal["log_kappa", "kappa", "time"] = "log_kappa"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"order: expected 1 to 4, found {self.order}.")
        if self.basis not in ("log_kappa", "kappa", "time"):
            raise ValueError(f"basis: expected 'log_kappa', 'kappa' or 'time', found {self.basis!r}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> tuple[Node, ...]:
        """No history yet."""
        require(process, Gaussian, "DEIS")
        return ()

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: tuple[Node, ...], generator: Noise = None
    ) -> Stages:
        """One evaluation; a step with an end at infinite lambda is DDIM's."""
        x0_hat = yield x, t
        (alpha,), (sigma,) = process.scales(x, t)
        inverse = np.where(sigma > 0, 1 / np.where(sigma > 0, sigma, 1.0), 0.0)
        epsilon = plus(factor(lean(inverse), x) * x, lean(-alpha * inverse), x0_hat)
        nodes = ((epsilon, t), *carry)
        x_s = exponential_step(process, x, t, s, ((x0_hat, t),)).mean
        if len(nodes) > 1:
            # The step of order 1 plus what the interpolation changes about the noise.
            weights = self._weights(process, x, (t, s, *(time for _, time in nodes)))
            for weight, (before, _) in zip(weights[1:], nodes[1:], strict=True):
                x_s = plus(x_s, weight, before - epsilon)
        return x_s, nodes[: self.order - 1]

    def _weights(self, process: Gaussian, x: Tensor, times: Sequence[Tensor]) -> Sequence[float | Array]:
        """Weights of the nodes' noise in ``x_s``; the times are those of the step, then the nodes'."""
        if self.basis == "time":
            places = [spread(time, x).double().cpu().numpy() for time in times]
            return _time_weights(process, *process.scales(x, *times), places)
        known = process.shared_scales(*times)
        return (
            _weights(*process.scales(x, *times), self.basis) if known is None else _shared_weights(*known, self.basis)
        )


def _weights(alpha: Array, sigma: Array, basis: str) -> list[Array]:
    """Integrals over the step, in kappa, of the nodes' Lagrange polynomials in kappa or its logarithm."""
    proper, step = _step(alpha, sigma)
    with np.errstate(divide="ignore"):
        start, end, *nodes = np.log(sigma / alpha) if basis == "log_kappa" else sigma / alpha
    length = np.where(proper, end, 1.0) - np.where(proper, start, 0.0)
    if basis == "log_kappa":  # kappa = kappa_t e^(length u), so d kappa is proportional to e^(length u) du
        moments = exponential_moments(length, len(nodes))
    else:
        moments = [np.full_like(length, 1 / (k + 1)) for k in range(len(nodes))]
    return [step * share for share in interpolation_shares(step_places(nodes, start, length, proper), moments)]


@lru_cache(4096)
def _shared_weights(alpha: tuple[float, ...], sigma: tuple[float, ...], basis: str) -> tuple[float, ...]:
    """`_weights` where all rows share their times, kept for the next batch of the same grid."""
    return tuple(float(weight) for weight in _weights(np.array(alpha), np.array(sigma), basis))


def _time_weights(process: Gaussian, alpha: Array, sigma: Array, times: Sequence[Array]) -> list[Array]:
    """The same integrals of polynomials in time."""
    proper, step = _step(alpha, sigma)
    start, end, *nodes = times
    length = np.where(proper, end, 1.0) - np.where(proper, start, 0.0)
    moments = _time_moments(process, start, length, len(nodes))
    return [step * share for share in interpolation_shares(step_places(nodes, start, length, proper), moments)]


def _step(alpha: Array, sigma: Array) -> tuple[NDArray[np.bool_], Array]:
    """Where both ends of a step are finite in kappa, and there its length times alpha at its end; 0 elsewhere."""
    proper = (alpha[0] > 0) & (sigma[1] > 0) & (alpha[0] * sigma[1] < alpha[1] * sigma[0])
    kappa = np.where(proper, sigma[:2], 1.0) / np.where(proper, alpha[:2], 1.0)
    return proper, alpha[1] * (kappa[1] - kappa[0])


def _time_moments(process: Gaussian, start: Array, length: Array, count: int) -> list[Array]:
    """Means of ``u^k`` under ``d kappa`` along a step whose time is linear in u, by Gauss-Legendre quadrature."""
    points, masses = np.polynomial.legendre.leggauss(16)
    u = 0.5 * (points + 1).reshape(-1, *(1,) * length.ndim)
    t = torch.as_tensor(start + length * u)
    with torch.no_grad():
        alpha, sigma, d_alpha, d_sigma = (
            value.numpy() for value in (process.alpha(t), process.sigma(t), process.d_alpha(t), process.d_sigma(t))
        )
    density = masses.reshape(u.shape) * (d_sigma * alpha - sigma * d_alpha) / alpha**2
    return [(density * u**k).sum(0) / density.sum(0) for k in range(count)]
