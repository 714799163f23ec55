"""DEIS: exponential multistep integration in noise prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    interpolation_shares,
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
        nodes = ((process.epsilon(x, x0_hat, t), t), *carry)
        x_s = exponential_step(process, x, t, s, ((x0_hat, t),)).mean
        if len(nodes) > 1:
            alpha, sigma = process.scales(x, t, s, *(time for _, time in nodes))
            proper = (alpha[0] > 0) & (sigma[1] > 0) & (alpha[0] * sigma[1] < alpha[1] * sigma[0])
            if proper.any():
                kappa = np.where(proper, sigma[:2], 1.0) / np.where(proper, alpha[:2], 1.0)
                width = alpha[1] * (kappa[1] - kappa[0])
                shares = self._shares(process, x, (t, s, *(time for _, time in nodes)), proper)
                # The step of order 1 plus what the interpolation changes about the noise.
                for share, (epsilon, _) in zip(shares[1:], nodes[1:], strict=True):
                    x_s = plus(x_s, width * share, epsilon - nodes[0][0])
        return x_s, nodes[: self.order - 1]

    def _shares(self, process: Gaussian, x: Tensor, times: Sequence[Tensor], proper: NDArray[np.bool_]) -> list[Array]:
        """The integrals of the nodes' Lagrange polynomials over the step in kappa, as shares of its width."""
        if self.basis == "time":
            start, end, *nodes = (spread(time, x).double().cpu().numpy() for time in times)
        else:
            alpha, sigma = process.scales(x, *times)
            with np.errstate(divide="ignore"):
                start, end, *nodes = np.log(sigma / alpha) if self.basis == "log_kappa" else sigma / alpha
        length = np.where(proper, end, 1.0) - np.where(proper, start, 0.0)
        count = len(nodes)
        if self.basis == "log_kappa":  # kappa = kappa_t e^(length u), so d kappa is proportional to e^(length u) du
            moments = exponential_moments(length, count)
        elif self.basis == "kappa":
            moments = [np.full_like(length, 1 / (k + 1)) for k in range(count)]
        else:
            moments = _time_moments(process, start, length, count)
        return interpolation_shares(step_places(nodes, start, length, proper), moments)


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
