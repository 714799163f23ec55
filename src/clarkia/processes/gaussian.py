"""Gaussian corruption ``x_t = alpha(t) x_0 + sigma(t) eps`` and all arithmetic on its posterior mean."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from clarkia.processes.kernels import GaussianKernel
from clarkia.processes.times import check_step, check_time, spread
from clarkia.random import Noise, randn

KINDS = ("x0", "epsilon", "score", "velocity", "v")
"""What a network may predict of Gaussian corruption."""

Array: TypeAlias = NDArray[np.float64]


class Gaussian(ABC):
    """A Gaussian process, given by five functions of time; t = 0 is clean (alpha 1, sigma 0), t = 1 the prior.

    Times are ``(n,)`` or the shape of the block. Where a schedule has one parameter a column, ``alpha`` and ``sigma``
    of a time ``(n,)`` are ``(n, columns)``. Coefficients are computed in the time's dtype, applied in the state's.
    """

    _table: Mapping[float | None, tuple[float, float]] | None = None

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale, exactly 0 at t = 0."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of the signal scale."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """Derivative of the noise scale."""

    @abstractmethod
    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` is ``kappa``; above 1 where the process never gets there."""

    def kappa(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio ``sigma / alpha``, infinite where alpha is 0."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """``log(alpha^2 / sigma^2)``: infinite at t = 0, minus infinity where alpha is 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def coefficients(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, broadcastable against ``x`` and in its dtype."""
        t = spread(t, x)
        return self.alpha(t).to(x.dtype), self.sigma(t).to(x.dtype)

    def scales(self, x: Tensor, *times: Tensor) -> tuple[Array, Array]:
        """Alpha and sigma at several times of a state, float64 on the host; the first axis is the times."""
        known = None if self._table is None else self.shared_scales(*times)
        if known is not None:
            return tuple(np.array(scale).reshape(-1, *(1,) * x.ndim) for scale in known)  # type: ignore[return-value]
        with torch.no_grad():
            stacked = torch.stack(torch.broadcast_tensors(*(spread(time, x).double() for time in times)))
            alpha, sigma = torch.broadcast_tensors(self.alpha(stacked), self.sigma(stacked))
        return alpha.cpu().numpy(), sigma.cpu().numpy()

    def shared_scales(self, *times: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Alpha and sigma at several times as plain numbers; None where they differ by row, element or column."""
        values = [_value_of_all(time) for time in times]
        if None in values:
            return None
        known = [] if self._table is None else [self._table.get(value) for value in values]
        if known and None not in known:
            return tuple(zip(*known, strict=True))  # type: ignore[arg-type, return-value]
        with torch.no_grad():
            t = torch.stack([time[0] for time in times]).double()
            alpha, sigma = self.alpha(t), self.sigma(t)
        return None if alpha.ndim > 1 or sigma.ndim > 1 else (tuple(alpha.tolist()), tuple(sigma.tolist()))

    def tabulated(self, times: Tensor) -> Self:
        """A copy that knows its `shared_scales` at some times by heart, so that a run evaluates its schedule once.

        Args:
            times: Times ``(m,)`` that all rows will share.
        """
        with torch.no_grad():
            alpha, sigma = (scale(times.double()) for scale in (self.alpha, self.sigma))
        if alpha.ndim > 1 or sigma.ndim > 1:  # a schedule a column
            return self
        process = copy.copy(self)
        table = dict(zip(times.tolist(), zip(alpha.tolist(), sigma.tolist(), strict=True), strict=True))
        object.__setattr__(process, "_table", table)
        return process

    def corrupt(
        self, x0: Float[Tensor, "n ..."], t: Tensor | float, *, generator: Noise = None
    ) -> Float[Tensor, "n ..."]:
        """Draw ``x_t`` given ``x_0``; elements at t = 0 come back as they are.

        Raises:
            ValueError: A time outside [0, 1] or of another shape than ``(n,)`` or that of ``x0``.
        """
        check_time(t)
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * randn(x0.shape, generator, dtype=x0.dtype, device=x0.device)

    def prior(
        self,
        num_samples: int,
        shape: Sequence[int],
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "n ..."]:
        """Draw ``sigma(1) eps`` of shape ``(num_samples, *shape)``."""
        noise = randn((num_samples, *shape), generator, dtype=dtype, device=device)
        with torch.no_grad():
            one = torch.ones((1,) * noise.ndim, dtype=torch.float64, device=noise.device)
            return self.sigma(one).to(noise.dtype) * noise

    # ------------------------------------------------------------------------------- what a prediction means

    def epsilon(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The noise ``(x_t - alpha x0_hat) / sigma``; 0 at t = 0, where there is none."""
        alpha, sigma = self.coefficients(t, x_t)
        return torch.where(sigma > 0, (x_t - alpha * x0_hat) / torch.where(sigma > 0, sigma, 1.0), 0.0)

    def score(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The score ``(alpha x0_hat - x_t) / sigma^2`` of the marginal; 0 at t = 0, where there is none."""
        alpha, sigma = self.coefficients(t, x_t)
        return torch.where(sigma > 0, (alpha * x0_hat - x_t) / torch.where(sigma > 0, sigma**2, 1.0), 0.0)

    def velocity(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The expected ``alpha' x_0 + sigma' eps``; 0 at t = 0."""
        slope, growth = self._derivatives(t, x_t)
        live = spread(t, x_t) > 0
        moving = slope * x0_hat + torch.where(live, growth, 0.0) * self.epsilon(x_t, x0_hat, t)
        return torch.where(live, moving, 0.0)

    def x0_from_epsilon(self, x_t: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a noise prediction means.

        Raises:
            ValueError: Somewhere alpha is 0, where the noise says nothing about the data.
        """
        alpha, sigma = self.coefficients(t, x_t)
        _check_signal(alpha, "epsilon")
        return (x_t - sigma * epsilon) / alpha

    def x0_from_score(self, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a score means (Tweedie's formula); raises where alpha is 0."""
        alpha, sigma = self.coefficients(t, x_t)
        _check_signal(alpha, "score")
        return (x_t + sigma**2 * score) / alpha

    def x0_from_velocity(self, x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a velocity means; ``x_t`` itself at t = 0."""
        alpha, sigma = self.coefficients(t, x_t)
        slope, growth = self._derivatives(t, x_t)
        live = spread(t, x_t) > 0
        growth = torch.where(live, growth, 1.0)
        mean = (growth * x_t - sigma * velocity) / torch.where(live, alpha * growth - sigma * slope, 1.0)
        return torch.where(live, mean, x_t)

    def v(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """The "v" of variance-preserving networks, ``alpha epsilon - sigma x0_hat``; no velocity in general.

        Source: Progressive Distillation for Fast Sampling of Diffusion Models (2022).
        """
        alpha, sigma = self.coefficients(t, x_t)
        return alpha * self.epsilon(x_t, x0_hat, t) - sigma * x0_hat

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """The posterior mean that a "v" means."""
        alpha, sigma = self.coefficients(t, x_t)
        return (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)

    def convert(self, value: Tensor, x_t: Tensor, t: Tensor, source: str, target: str) -> Tensor:
        """Turn one kind of prediction into another.

        Args:
            value: The prediction, of the shape of ``x_t``.
            x_t: Noisy state, ``(n, ...)``.
            t: Its time, ``(n,)`` or element-wise.
            source: What ``value`` is: ``"x0"``, ``"epsilon"``, ``"score"``, ``"velocity"`` or ``"v"``.
            target: What is wanted, one of the same.

        Raises:
            ValueError: An unknown kind, or an epsilon or score where alpha is 0 and it does not determine the data.
        """
        for name, kind in (("source", source), ("target", target)):
            if kind not in KINDS:
                raise ValueError(f"{name}: expected one of {list(KINDS)}, found {kind!r}.")
        if source == target:
            return value
        x0_hat = value if source == "x0" else getattr(self, f"x0_from_{source}")(x_t, value, t)
        return x0_hat if target == "x0" else getattr(self, target)(x_t, x0_hat, t)

    def loss_weight(self, t: Tensor, kind: str) -> Tensor:
        """Factor between the squared error of ``x0_hat`` and that of another kind of prediction at the same point.

        Args:
            t: Time.
            kind: As in `convert`.

        Returns:
            ``w`` with ``|error of kind|^2 = w |error of x0|^2``; infinite where the kind does not exist.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        if kind == "x0":
            return torch.ones_like(alpha)
        if kind == "epsilon":
            return (alpha / sigma) ** 2
        if kind == "score":
            return (alpha / sigma**2) ** 2
        if kind == "velocity":
            return ((alpha * self.d_sigma(t) - self.d_alpha(t) * sigma) / sigma) ** 2
        if kind == "v":
            return ((alpha**2 + sigma**2) / sigma) ** 2
        raise ValueError(f"kind: expected one of {list(KINDS)}, found {kind!r}.")

    def retime(self, t: Tensor, other: Gaussian) -> tuple[Tensor, Tensor]:
        """Where another process has the same noise-to-signal ratio.

        Args:
            t: Time of this process.
            other: The other process.

        Returns:
            The other's time and the factor that takes this process's states there, ``alpha_other / alpha_self``: all
            Gaussian processes are one up to this change of time and scale.
        """
        time = other.t_of_kappa(self.kappa(t)).clamp(max=1.0)
        time = torch.where(t > 0, time, torch.zeros_like(time))
        alpha, alpha_other = self.alpha(t), other.alpha(time)
        # Where alpha is 0 the states are pure noise, and their scale is sigma's.
        pure = (alpha == 0) | (alpha_other == 0)
        by_noise = other.sigma(time) / torch.where(pure, self.sigma(t), 1.0)
        return time, torch.where(pure, by_noise, alpha_other / torch.where(pure, 1.0, alpha))

    # ------------------------------------------------------------------------------------------- transitions

    def kernel(
        self, x_t: Tensor, prediction: Tensor, t: Tensor | float, s: Tensor | float, *, eta: float = 1.0
    ) -> GaussianKernel:
        """The step from t to s <= t that takes ``prediction`` for the clean data over the whole step.

        Args:
            x_t: State at time t, ``(n, ...)``.
            prediction: ``x0_hat``, of the same shape.
            t: Time of ``x_t``, ``(n,)`` or element-wise.
            s: Time to go to.
            eta: Stochasticity: 0 the probability-flow step (DDIM), 1 the posterior ``q(x_s | x_t, x0_hat)`` (DDPM).

        Returns:
            The kernel. Elements with s = t, in particular observed ones at t = 0, stay exactly as they are.

        Raises:
            ValueError: A time outside [0, 1] or of a wrong shape, or s above t.

        Source: Denoising Diffusion Implicit Models (2021); the family of reverse SDEs of DPM-Solver++ (2022).
        """
        start, end = spread(t, x_t), spread(s, x_t, "s")
        check_step(start, end)
        decay, weight, std = self.step_weights(start, end, eta=eta)
        return GaussianKernel(decay.to(x_t.dtype) * x_t + weight.to(x_t.dtype) * prediction, std.to(x_t.dtype))

    def step_weights(self, t: Tensor, s: Tensor, *, eta: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of ``x_t`` and of the prediction, and the noise, of a step from t to s with a constant prediction."""
        alpha_t, sigma_t, alpha_s, sigma_s = self.alpha(t), self.sigma(t), self.alpha(s), self.sigma(s)
        moving = (sigma_t > 0) & (s < t)
        shrink = torch.where(moving, sigma_s / torch.where(moving, sigma_t, 1.0), 1.0)
        # rho = kappa_s / kappa_t in [0, 1]; finite also where alpha_t = 0.
        rho = torch.where(moving, shrink * alpha_t / torch.where(moving, alpha_s, 1.0), 1.0)
        weight = alpha_s * (1 - rho ** (1 + eta))
        return shrink * rho**eta, weight, sigma_s * torch.sqrt(1 - rho ** (2 * eta))

    def _derivatives(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        t = spread(t, x)
        return self.d_alpha(t).to(x.dtype), self.d_sigma(t).to(x.dtype)


def _value_of_all(t: Tensor) -> float | None:
    """The time that all rows share, None where each has its own."""
    return t[0].item() if t.ndim == 1 and (t.stride(0) == 0 or len(t) == 1) else None


def _check_signal(alpha: Tensor, name: str) -> None:
    if not bool((alpha > 0).all()):
        raise ValueError(f"{name}: expected times with alpha > 0, found alpha = 0, where it does not determine x0.")
