"""Potentials of a measurement ``y = A x_0 + noise_std eps``: what is foreseen of it, and the annealed likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.operators import SVD, LinearOperator, Measurement
from clarkia.processes import Gaussian, GaussianKernel
from clarkia.random import Noise, randn
from clarkia.samplers import DPMSolverPP
from clarkia.samplers.solver import Evaluate, Staged, as_kernel, require, run
from clarkia.steering.moment import Moment
from clarkia.steering.moves import known_at
from clarkia.steering.potentials import Potential, Twist

Width = Literal["kappa", "posterior"]


def measured(
    operator: LinearOperator, y: Tensor, noise_std: float, *, width: Width = "kappa", data_std: float = 1.0
) -> Potential:
    """The twist ``psi_t = N(y; A x0_hat, q_t A A^T + noise_std^2 I)``: the measurement as the prediction foresees it.

    Args:
        operator: A, with a singular value decomposition.
        y: The measurement, ``measured_shape``, or one a particle.
        noise_std: Standard deviation of its noise, positive.
        width: What ``q_t`` is: ``"kappa"``, the squared noise-to-signal ratio; ``"posterior"``, the variance of clean
            data with deviation ``data_std``, ``sigma^2 d^2 / (alpha^2 d^2 + sigma^2)``.
        data_std: d.

    Raises:
        ValueError: A noise that is not positive, an unusable measurement, an operator without a decomposition.

    Source: Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (2023).
    """
    if width not in ("kappa", "posterior"):
        raise ValueError(f"width: expected 'kappa' or 'posterior', found {width!r}.")
    seen = Seen.of(operator, y, noise_std)

    def log_psi(moment: Moment) -> Float[Tensor, " n"]:
        process = _gaussian(moment.process)
        t = moment.t.double()  # type: ignore[union-attr]
        alpha2, sigma2 = process.alpha(t) ** 2, process.sigma(t) ** 2
        d2 = data_std**2
        # Where no signal is left the ratio is infinite, and the prior's own variance is what is foreseen.
        posterior = sigma2 * d2 / (alpha2 * d2 + sigma2)
        ratio = torch.where(alpha2 > 0, sigma2 / torch.where(alpha2 > 0, alpha2, 1.0), posterior)
        return seen.log_density(moment.prediction, posterior if width == "posterior" else ratio)

    return Twist(log_psi, lambda x0: seen.log_density(x0, torch.zeros(1, dtype=torch.float64)))  # type: ignore[arg-type]


def annealed(
    operator: LinearOperator, y: Tensor, noise_std: float, *, gamma: float = 2.0, solver: Staged | None = None
) -> tuple[Potential, AnnealedStep]:
    """Potential and proposal along ``p_t N(y; A x_t / alpha, v I)`` with ``v = noise_std^2 + gamma^2 kappa^2``.

    The proposal is the best there is, the step's own law given the likelihood after it. What a particle will weigh
    does not depend on its draw then, and particles are copied before they move.

    Args:
        operator: A, with a singular value decomposition.
        y: The measurement, ``measured_shape``, or one a particle.
        noise_std: Standard deviation of its noise, positive.
        gamma: How much the state's own noise widens the likelihood; 0 is the published path, whose weights rest on few
            particles wherever noise is large against ``noise_std``.
        solver: Whose steps are taken: one of a Gaussian process, with noise in its steps and one evaluation in each;
            None for `samplers.DPMSolverPP` of second order at stochasticity 1.

    Returns:
        ``potential, proposal`` for `run`.

    Raises:
        ValueError: A noise that is not positive, a negative gamma, an unusable measurement, an operator without a
            decomposition.

    Source: Solving Inverse Problems via Diffusion-Based Priors: An Approximation-Free Ensemble Sampling Approach
    (2025).
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma: expected a non-negative number, found {gamma}.")
    seen = Seen.of(operator, y, noise_std)
    path = AnnealedStep(seen, gamma, DPMSolverPP(order=2, stochasticity=1.0) if solver is None else solver)
    return Twist(path.ahead, lambda x0: seen.log_density(x0, torch.zeros(1, dtype=torch.float64))), path  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Seen:
    """A noisy measurement in the directions that its operator sees.

    Args:
        measurement: With noise.
        svd: Of its operator.
    """

    measurement: Measurement
    svd: SVD

    @classmethod
    def of(cls, operator: LinearOperator, y: Tensor, noise_std: float) -> Seen:
        """The measurement, checked."""
        if not noise_std > 0:
            raise ValueError(
                f"noise_std: expected a positive number, found {noise_std}; particles are weighed by a density, and "
                "for a certain measurement there are `samplers.DDRM` and `guidance.linear`."
            )
        svd = operator.svd()
        if svd is None:
            raise ValueError("operator: expected one with a singular value decomposition, found none; it is too large.")
        return cls(Measurement(operator, y, noise_std), svd)

    @property
    def variance(self) -> float:
        """Of the noise."""
        return self.measurement.noise_std**2

    def log_density(
        self, x: Float[Tensor, "n ..."], weight: Float[Tensor, " m"], variance: Float[Tensor, " m"] | None = None
    ) -> Float[Tensor, " n"]:
        """``log N(y; A x, weight A A^T + variance I)``, float64 ``(n,)``.

        Args:
            x: Points.
            weight: One a row, or one.
            variance: The same; by default that of the noise.
        """
        residual = self.measurement.residual(x.double())
        inside = self.svd.u_t(residual)
        values = self.svd.values.to(inside)
        floor = torch.full_like(weight, self.variance) if variance is None else variance
        widths = weight[:, None] * values**2 + floor[:, None]
        seen = (inside.square() / widths + torch.log(2 * math.pi * widths)).sum(1)
        rest = residual.flatten(1)
        left = rest.shape[1] - len(values)
        outside = (rest.square().sum(1) - inside.square().sum(1)).clamp(min=0) if left else torch.zeros(1).to(seen)
        return -0.5 * (seen + outside / floor + left * torch.log(2 * math.pi * floor))


@dataclass(frozen=True, eq=False)
class AnnealedStep:
    """A `Move`: the step of a solver given the annealed likelihood after it; see `annealed`.

    Args:
        seen: The measurement.
        gamma: How much noise widens its likelihood.
        solver: Whose step.
    """

    seen: Seen
    gamma: float
    solver: Staged

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> Any:
        """The solver's carry."""
        require(process, Gaussian, "AnnealedStep")
        return self.solver.init(x, process, generator)

    def step(
        self,
        denoise: Evaluate,
        process: Gaussian,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        carry: Any,
        generator: Noise = None,
    ) -> tuple[Tensor, Any, Float[Tensor, " n"]]:
        """A draw, and ``log p - log q`` of it: the likelihood of the step less that of where it led."""
        (mean, width, alpha, variance), carry = self._law(process, x, denoise(x, t), t, s, carry)
        values = self.seen.svd.values[None]
        b = values / alpha[:, None]  # of the map from x_s to the measurement
        total = width[:, None] * b**2 + variance[:, None]
        gap = self.seen.svd.u_t(self.seen.measurement.rows(mean)) - b * self.seen.svd.v_t(mean)
        noise = randn(x.shape, generator, dtype=x.dtype, device=x.device).double()
        # Along a measured direction the draw is narrower, and its mean is moved towards the measurement.
        narrower = (variance[:, None] / total).sqrt() - 1
        std = width.sqrt()
        inside = std[:, None] * narrower * self.seen.svd.v_t(noise) + width[:, None] * b / total * gap
        x_s = mean + std.reshape(-1, *(1,) * (x.ndim - 1)) * noise + self.seen.svd.v(inside)
        high = alpha.reshape(-1, *(1,) * (x.ndim - 1))
        before = self.seen.log_density(mean / high, width / alpha**2, variance)
        after = self.seen.log_density(x_s / high, torch.zeros_like(width), variance)
        return x_s.to(x.dtype), carry, before - after

    def ahead(self, moment: Moment) -> Float[Tensor, " n"]:
        """``log int p(x_s | x_t) N(y; A x_s / alpha_s, v_s I) dx_s``, what a particle weighs before its draw."""
        process = _gaussian(moment.process)
        law, _ = self._law(process, moment.x, moment.prediction, moment.t, moment.s, moment.carry)
        mean, width, alpha, variance = law
        high = alpha.reshape(-1, *(1,) * (mean.ndim - 1))
        return self.seen.log_density(mean / high, width / alpha**2, variance)

    def _law(
        self, process: Gaussian, x: Any, x0_hat: Tensor, t: Any, s: Any, carry: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Any]:
        """Mean and variance of the step, alpha after it and the likelihood's variance there, float64; and the carry."""
        if t.ndim != 1:
            raise ValueError(
                "t: expected one time a row, found one an element; make known cells part of the measurement."
            )
        x, t, s = x.double(), t.double(), s.double()
        stages = self.solver.stages(process, x, t, s, carry)
        outcome, carry = run(stages, known_at(_one_alone, x, t, x0_hat.double()))
        kernel = as_kernel(outcome)
        if not isinstance(kernel, GaussianKernel):
            raise ValueError(f"solver: expected one of a Gaussian process, found {type(self.solver).__name__}.")
        width = kernel.std.double().reshape(len(kernel.std), -1)[:, 0].square()
        alpha, kappa = process.alpha(s), process.kappa(s)
        alpha, kappa, width = torch.broadcast_tensors(alpha, kappa, width)
        return (kernel.mean, width, alpha, self.seen.variance + self.gamma**2 * kappa**2), carry


def _one_alone(x: Any, t: Any) -> Any:
    raise ValueError("solver: expected one with a single evaluation a step, such as DPMSolverPP or DDPM.")


def _gaussian(process: Any) -> Gaussian:
    require(process, Gaussian, "a measurement")
    return process
