"""Annealed likelihoods in continuous time: particles that drift towards a measurement, and weigh what the drift lacks.

In the clean data's units ``z = x / alpha`` and with the noise level ``kappa = sigma / alpha`` for a clock, the law of
noisy data p is bent to ``p exp(-V)`` with ``V(z, kappa) = |y - F(z)|^2 / 2v + (m / 2) log 2 pi v`` and
``v = noise_std^2 + gamma^2 kappa^2``: at kappa = 0 it is the posterior, and while there is noise the measurement counts
for little. gamma = 0 weighs noisy states by the bare likelihood, which few particles survive.

Source: Solving Inverse Problems via Diffusion-Based Priors: An Approximation-Free Ensemble Sampling Approach (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.operators import LinearOperator, Nonlinear
from clarkia.operators.svd import SVD
from clarkia.processes import Gaussian
from clarkia.random import Noise, rand
from clarkia.samplers.solver import Evaluate, require
from clarkia.spaces import State
from clarkia.steering.moment import Moment
from clarkia.steering.potentials import Memory, Potential, zeros

DIFFERENCE = 1e-4  # step of the forward differences of a Laplacian, in float64


def annealed_diffusion(
    operator: LinearOperator | Nonlinear,
    y: Tensor,
    noise_std: float,
    *,
    gamma: float = 2.0,
    stochasticity: float = 1.0,
    num_probes: int = 1,
) -> tuple[Potential, AnnealedDiffusion]:
    """Potential and proposal along the annealed path in continuous time, for measurements that need not be linear.

    Exact for small steps and many particles; `annealed`, for linear measurements, is exact at any step.

    Args:
        operator: As of `AnnealedLikelihood`, like the next three.
        y: The measurement.
        noise_std: Standard deviation of its noise.
        gamma: How much noise widens the likelihood.
        stochasticity: As of `AnnealedDiffusion`.
        num_probes: Random directions of an estimated Laplacian.

    Returns:
        ``potential, proposal`` for `run`.

    Source: Solving Inverse Problems via Diffusion-Based Priors: An Approximation-Free Ensemble Sampling Approach
    (2025).
    """
    likelihood = AnnealedLikelihood(operator, y, noise_std, gamma, num_probes)
    return MovesAlone(), AnnealedDiffusion(likelihood, stochasticity)


@dataclass(frozen=True, eq=False)
class AnnealedLikelihood:
    """V and its derivatives; see the module. Everything is float64.

    Args:
        operator: F, linear or any differentiable `operators.Nonlinear`. What is exact is so for a linear one with a
            singular value decomposition.
        y: The measurement, or one a row.
        noise_std: Standard deviation of its noise, positive.
        gamma: How much the state's own noise widens the likelihood.
        num_probes: Random directions of an estimated Laplacian.

    Raises:
        ValueError: A noise that is not positive, a negative gamma, or numbers in y that are not finite.
    """

    operator: LinearOperator | Nonlinear
    y: Tensor
    noise_std: float
    gamma: float = 2.0
    num_probes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", torch.as_tensor(self.y))
        if not 0 < self.noise_std < math.inf or not 0 <= self.gamma < math.inf:
            raise ValueError(
                "noise_std, gamma: expected a positive and a non-negative number, "
                f"found {self.noise_std} and {self.gamma}."
            )
        if not bool(self.y.isfinite().all()):
            raise ValueError("y: expected finite numbers, found a NaN or infinity.")

    def variance(self, kappa: Tensor) -> Tensor:
        """``v``, of the shape of ``kappa``."""
        return self.noise_std**2 + self.gamma**2 * kappa.double() ** 2

    def value(self, z: Float[Tensor, "n ..."], kappa: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """V."""
        r, v = self.residual(z.double()).flatten(1), self.variance(kappa)
        return 0.5 * (r.square().sum(1) / v + r.shape[1] * torch.log(2 * math.pi * v))

    def slope(self, z: Float[Tensor, "n ..."], kappa: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """``dV / d kappa``."""
        r, v = self.residual(z.double()).flatten(1), self.variance(kappa)
        return self.gamma**2 * kappa.double() * (r.shape[1] / v - r.square().sum(1) / v**2)

    def gradient(self, z: Float[Tensor, "n ..."], kappa: Float[Tensor, " n"]) -> Float[Tensor, "n ..."]:
        """``dV / dz``."""
        return -self.pull(z.double()) / _high(self.variance(kappa), z)

    def laplacian(
        self, z: Float[Tensor, "n ..."], kappa: Float[Tensor, " n"], generator: Noise = None
    ) -> Float[Tensor, " n"]:
        """``tr d^2V / dz^2``: exact for a linear operator, else from random signs and forward differences."""
        v = self.variance(kappa)
        if self.svd is not None:
            return (self.svd.values.square().sum() / v).expand(len(z))
        z = z.double()
        start, total = self.gradient(z, kappa), torch.zeros_like(v)
        for _ in range(self.num_probes):
            probe = torch.where(rand(z.shape, generator, device=z.device) < 0.5, -1.0, 1.0).to(z.dtype)
            moved = self.gradient(z + DIFFERENCE * probe, kappa)
            total = total + ((moved - start) * probe).flatten(1).sum(1) / DIFFERENCE
        return total / self.num_probes

    def drifted(
        self, z: Float[Tensor, "n ..."], kappa: Tensor, kappa_s: Tensor, stochasticity: float, share: float = 1.0
    ) -> Float[Tensor, "n ..."]:
        """Where the drift ``-2 stochasticity kappa dV/dz`` alone takes a state on its way from kappa to kappa_s.

        With ``Lambda = int 2 stochasticity kappa / v`` a singular direction decays to its measurement as
        ``exp(-Lambda s^2)``, however stiff. Of another operator it is a step along the gradient, which decays in the
        same way with the operator's slope along it for s, and so never overshoots.

        Args:
            z: States.
            kappa: Their noise level, ``(n,)``.
            kappa_s: The level to go to.
            stochasticity: As of `AnnealedDiffusion`.
            share: The part of the way to go.
        """
        z = z.double()
        v, v_s = self.variance(kappa), self.variance(kappa_s)
        if self.gamma > 0:
            rate = (v / v_s).log() / self.gamma**2
        else:
            rate = (kappa.double() ** 2 - kappa_s.double() ** 2) / self.noise_std**2
        rate = share * stochasticity * rate
        if self.svd is None:
            return z + self._descent(z, rate)
        values = self.svd.values.to(z)
        gap = self.svd.u_t(self._rows(z)) / values - self.svd.v_t(z)
        return z + self.svd.v(-torch.expm1(-rate[:, None] * values**2) * gap)

    def start(self, z: Float[Tensor, "n ..."], kappa: Float[Tensor, " n"]) -> tuple[Tensor, Float[Tensor, " n"]]:
        """From draws of ``N(0, kappa^2)`` to draws of that times ``exp(-V)``, and the log-weight they begin with.

        Exact for a linear operator, where the weight is the normaliser; else draws stay and weigh ``exp(-V)``.
        """
        z = z.double()
        if self.svd is None:
            return z, -self.value(z, kappa)
        v, k2 = self.variance(kappa)[:, None], kappa.double()[:, None] ** 2
        values, y = self.svd.values.to(z), self._rows(z)
        inside = self.svd.u_t(y)
        width = values**2 * k2 + v
        own = self.svd.v_t(z)  # kappa times a standard normal
        drawn = k2 * values * inside / width + (v / width).sqrt() * own
        outside = (y - self.svd.u(inside)).flatten(1)
        log_z = (inside.square() / width + torch.log(2 * math.pi * width)).sum(1)
        left = outside.shape[1] - len(values)
        log_z = log_z + outside.square().sum(1) / v[:, 0] + left * torch.log(2 * math.pi * v[:, 0])
        return z + self.svd.v(drawn - own), -0.5 * log_z

    def residual(self, z: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``y - F(z)``."""
        return self._rows(z) - self.operator.apply(z)

    def pull(self, z: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``J' (y - F(z))``: the direction towards the measurement, free of noise levels."""
        if isinstance(self.operator, LinearOperator):
            return self.operator.adjoint(self.residual(z))
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            half = 0.5 * self.residual(point).square().sum()
        return -torch.autograd.grad(half, point)[0]

    def _descent(self, z: Tensor, rate: Tensor) -> Tensor:
        """A step of length ``(1 - exp(-rate s^2)) / s^2`` times the pull, s the operator's slope along it."""
        pull = self.pull(z)
        size = pull.flatten(1).norm(dim=1)
        along = pull / _high(torch.where(size > 0, size, 1.0), z)
        change = self.operator.apply(z + DIFFERENCE * along) - self.operator.apply(z)
        curvature = (change / DIFFERENCE).flatten(1).square().sum(1)
        flat = rate * curvature < 1e-12  # there the length is the rate itself
        length = torch.where(flat, rate, -torch.expm1(-rate * curvature) / torch.where(flat, 1.0, curvature))
        return _high(length, z) * pull

    @cached_property
    def svd(self) -> SVD | None:
        """The decomposition of a linear operator; None where there is none."""
        return self.operator.svd() if isinstance(self.operator, LinearOperator) else None

    def _rows(self, z: Tensor) -> Tensor:
        """The measurement of every row."""
        y = self.y.to(z)
        if isinstance(self.operator, LinearOperator) and y.shape == self.operator.measured_shape:
            return y.expand(len(z), *y.shape)
        return y


@dataclass(frozen=True, eq=False)
class AnnealedDiffusion:
    """A `Move` along the annealed posterior: the reverse diffusion bent by the likelihood, weighed for what is missing.

    ``dz = ((1 + eta)(x0_hat - z) / kappa - 2 eta kappa dV/dz) dtau + sqrt(2 eta kappa) dW`` with ``dtau = -d kappa``,
    and log-weights at the rate ``-b . dV/dz + eta kappa (|dV/dz|^2 - tr d^2V) + dV/d kappa``, b the first term without
    V. Likelihood and prior take turns, half a step, a step, half a step, each integrated exactly where it can be;
    the rate is the mean of both ends. It is exact in the limit of small steps, where particles with kernels
    (`guidance` proposals) are exact at any.

    It takes two evaluations a step, and wants a grid as fine as `schedules.karras` of some hundred steps.

    Args:
        likelihood: The path's potential V.
        stochasticity: eta, from 0, where particles follow the probability flow and the first weights must do it all,
            to 1, the reverse diffusion.

    Raises:
        ValueError: A stochasticity outside [0, 1]; in use a process that is not Gaussian, or has alpha = 0 at the
            start, where there are no clean units.
    """

    likelihood: AnnealedLikelihood
    stochasticity: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.stochasticity <= 1:
            raise ValueError(f"stochasticity: expected a number from 0 to 1, found {self.stochasticity}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> bool:
        """Whether the particles have been moved to the first law of the path: not yet."""
        require(process, Gaussian, "AnnealedDiffusion")
        return False

    def step(
        self,
        denoise: Evaluate,
        process: Gaussian,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        carry: bool,
        generator: Noise = None,
    ) -> tuple[Tensor, bool, Float[Tensor, " n"]]:
        """The particles at s, and what their weights gain; before the first step, their start and its weight."""
        alpha, kappa, alpha_s, kappa_s = (value for time in (t, s) for value in _scales(process, time, x))
        z, gain = x.double() / _high(alpha, x), zeros(x)
        if not carry:
            z, gain = self.likelihood.start(z, kappa)
            x = (_high(alpha, x) * z).to(x.dtype)
        x0_hat = denoise(x, t)
        before = self._rate(z, kappa, x0_hat, generator)
        eta = self.stochasticity
        bent = self.likelihood.drifted(z, kappa, kappa_s, eta, 0.5)
        drawn = process.kernel((_high(alpha, x) * bent).to(x.dtype), x0_hat, t, s, eta=eta).sample(generator)
        z = self.likelihood.drifted(drawn.double() / _high(alpha_s, x), kappa, kappa_s, eta, 0.5)
        x = (_high(alpha_s, x) * z).to(x.dtype)
        # Without noise nothing drifts and V stands still: all terms of the rate are multiples of kappa.
        after = (
            self._rate(z, kappa_s, denoise(x, s), generator) if bool((kappa_s > 0).any()) else torch.zeros_like(before)
        )
        return x, True, gain + 0.5 * (kappa - kappa_s) * (before + after)

    def _rate(self, z: Tensor, kappa: Tensor, x0_hat: Tensor, generator: Noise) -> Float[Tensor, " n"]:
        """The rate of the log-weights in ``-kappa``."""
        gradient = self.likelihood.gradient(z, kappa).flatten(1)
        level = torch.where(kappa > 0, kappa, 1.0)  # a row without noise is its own prediction
        drift = (1 + self.stochasticity) * (x0_hat.double() - z).flatten(1) / level[:, None]
        bend = gradient.square().sum(1) - self.likelihood.laplacian(z, kappa, generator)
        rate = self.stochasticity * kappa * bend - (drift * gradient).sum(1)
        return rate + self.likelihood.slope(z, kappa)


class MovesAlone:
    """A `Potential` without factors of its own: particles are resampled by what their moves have paid."""

    @property
    def looks(self) -> bool:
        """So that weights are looked at before every step."""
        return True

    def memory(self, x: State) -> Memory:
        """Nothing."""
        return {}

    def at(self, moment: Moment, memory: Memory) -> tuple[Float[Tensor, " n"], Memory]:
        """No factor."""
        return zeros(moment.x), memory

    def final(self, x0: State, memory: Memory) -> Float[Tensor, " n"]:
        """No factor."""
        return zeros(x0)


def _scales(process: Gaussian, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and kappa of every row, float64 ``(n,)``."""
    if t.ndim != 1:
        raise ValueError("t: expected one time a row, found one an element; known cells are measurements here.")
    time = t.double()
    alpha = process.alpha(time)
    if alpha.ndim != 1 or not bool((alpha > 0).all()):
        raise ValueError("process: expected one alpha > 0 a row; start below t = 1, where no signal is left.")
    return alpha.expand(len(x)), process.kappa(time).expand(len(x))


def _high(values: Tensor, x: Tensor) -> Tensor:
    """A number a row, broadcastable against ``x``."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))
