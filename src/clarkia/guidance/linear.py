"""Guidance by linear measurements: one formula, and its published settings as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.gradients import WHOLE, Evaluated, continuous_blocks, evaluated, mapped, tweedie_factor
from clarkia.guidance.grid import step_at
from clarkia.guidance.guided import Guided
from clarkia.operators import LinearOperator, Measurement, conjugate_gradients, minimal_residual
from clarkia.processes import Gaussian, Process, spread
from clarkia.processes.times import Time
from clarkia.spaces import State


@dataclass(frozen=True)
class Setting:
    """A row of the table: the letters of ``x0_hat + P A^T (A Q A^T + V)^-1 (y - A x0_hat)``.

    Attributes:
        p: ``"covariance"``, ``Cov[x_0 | x_t]`` by a backward pass; or ``"identity"``.
        q: The same; ``"normal"``, the posterior variance ``r^2`` of independent normal data; or ``"zero"``.
        v: The variance of the noise: ``"noise"``, as measured; ``"trust"``, in units of ``kappa^2 / strength``;
            ``"one"``; or ``"zero"``, with noise held back below ``kappa``.
        title: The paper.
        year: Of its first appearance.
    """

    p: Literal["covariance", "identity"]
    q: Literal["covariance", "normal", "identity", "zero"]
    v: Literal["noise", "trust", "one", "zero"]
    title: str
    year: int


METHODS: Mapping[str, Setting] = MappingProxyType(
    {
        "dps": Setting("covariance", "zero", "noise",
                       "Diffusion Posterior Sampling for General Noisy Inverse Problems", 2023),
        "pigdm": Setting("covariance", "normal", "noise",
                         "Pseudoinverse-Guided Diffusion Models for Inverse Problems", 2023),
        "moment_matching": Setting("covariance", "covariance", "noise",
                                   "Learning Diffusion Priors from Observations by Expectation Maximization", 2024),
        "diffpir": Setting("identity", "identity", "trust",
                           "Denoising Diffusion Models for Plug-and-Play Image Restoration", 2023),
        "ddnm": Setting("identity", "identity", "zero",
                        "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", 2023),
        "flowchef": Setting("identity", "zero", "one",
                            "Steering Rectified Flow Models in the Vector Field for Controlled Image Generation", 2024),
    }
)  # fmt: skip
"""The published settings by name."""

Method = Literal["dps", "pigdm", "moment_matching", "diffpir", "ddnm", "flowchef"]


def linear(
    denoiser: Denoiser,
    process: Process,
    operator: LinearOperator,
    y: Float[Tensor, "..."],
    noise_std: float,
    *,
    method: Method = "pigdm",
    scale: float = 1.0,
    data_std: float = 1.0,
    strength: float = 7.0,
    times: Float[Tensor, " nodes"] | None = None,
    block: str | None = None,
    iterations: int = 5,
    tolerance: float = 1e-4,
) -> Guided:
    """A denoiser led by a linear measurement ``y = A x_0 + noise_std eps``.

    All methods are ``x0_hat + scale P A^T (A Q A^T + V)^-1 (y - A x0_hat)`` with the letters of `METHODS`. Moment
    matching is exact for normal data, the rest are heuristics that need particles to be corrected. `"dps"` is stiff
    where the noise is small; see `samplers.DPS` for the released form. `"diffpir"`, `"ddnm"` and `"flowchef"` need no
    gradient. Elements at t = 0 stay as they are. Where alpha is 0 the posterior covariance is the data's, for which
    ``data_std^2`` stands.

    Args:
        denoiser: The denoiser, differentiable for the methods with a covariance.
        process: Its process, Gaussian or mixed with Gaussian blocks; the others of these are led through their
            covariances with the measured one, categories stay.
        operator: ``A``, of the shape of the (measured block of a) data point.
        y: The measurement, or one a row.
        noise_std: Deviation of its noise; 0 for a certain measurement (not for "dps").
        method: A row of `METHODS`.
        scale: Factor of the correction: DPS's zeta, FlowChef's step; 1 for the others.
        data_std: Deviation of the data, in ``r^2 = sigma^2 d^2 / (alpha^2 d^2 + sigma^2)``.
        strength: DiffPIR's lambda, 3 to 25; more trusts the measurement less. Its re-noising, a share zeta = 0.1 of
            the variance redrawn, is a matter of the solver: `samplers.DDIM` with a small eta is near it.
        times: The grid that will be walked, so that DDNM holds noise back to the level the step leads to; without it,
            to the level where the step starts.
        block: The measured block of a mixed state; may be left out where one is continuous.
        iterations: Products with the covariance that moment matching may take, each a backward pass. Its system is
            solved by minimal residuals: the covariance of a learned denoiser is neither quite symmetric nor positive.
        tolerance: Relative residual at which it needs no more.

    Returns:
        The guided denoiser; it knows its plain answer as well.

    Raises:
        ValueError: A wrong argument, or a certain measurement that no data point could have given.

    Source: see `METHODS`.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {sorted(METHODS)}, found {method!r}.")
    setting, measurement = METHODS[method], Measurement(operator, y, noise_std)
    for name, number in (("data_std", data_std), ("strength", strength)):
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a positive number, found {number}.")
    if setting.q == "zero" and setting.v == "noise" and noise_std == 0:
        raise ValueError("noise_std: expected a positive number for 'dps', which divides by it, found 0.")
    name = measured_block(process, block)
    rule = _Rule(
        setting, measurement, data_std, strength, None if times is None else step_at(times), iterations, tolerance
    )

    def both(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        if setting.p == "identity":
            prediction = denoiser(x_t, t, *(() if condition is None else (condition,)))
            here = Evaluated(process, x_t, t, prediction, x_t if isinstance(x_t, dict) else {WHOLE: x_t})
        else:
            here = evaluated(denoiser, process, x_t, t, condition)
        corrections = rule.corrections(here, name)
        plain = here.plain
        return plain, mapped(plain, lambda at, part: part + scale * corrections[at] if at in corrections else part)

    return Guided(both)


def measured_block(process: Process, block: str | None) -> str:
    """The continuous block that is measured; raises ``ValueError`` where it is not clear which."""
    names = continuous_blocks(process)
    if block is None and len(names) == 1:
        return names[0]
    if block not in names:
        raise ValueError(f"block: expected one of {names}, found {block!r}.")
    return block


@dataclass(frozen=True, eq=False)
class _Rule:
    """The formula with everything that stays the same over a run."""

    setting: Setting
    measurement: Measurement
    data_std: float
    strength: float
    step: Any
    iterations: int
    tolerance: float

    def corrections(self, here: Evaluated, name: str) -> dict[str, Tensor]:
        """``P A^T (A Q A^T + V)^-1 r`` for every block it reaches."""
        process, x, t, prediction = here.block(name)
        residual = self.measurement.residual(prediction.detach())
        live = (spread(t, x) > 0).to(x.dtype)
        if self.setting.v == "zero":
            return {name: live * self._null_space(process, x, t, residual, live)}
        pull = self.measurement.operator.adjoint(self._solved(here, name, residual, live))
        return self._covariance(here, name, pull) if self.setting.p == "covariance" else {name: live * pull}

    def _solved(self, here: Evaluated, name: str, r: Tensor, live: Tensor) -> Tensor:
        """``(A Q A^T + V)^-1 r``."""
        process, x, t, _ = here.block(name)
        alpha, sigma = process.coefficients(t, x)
        variance: Tensor | float = {"one": 1.0}.get(self.setting.v, self.measurement.noise_std**2)
        if self.setting.q == "zero":
            return r / variance
        if self.setting.q == "covariance":
            product = self._product(lambda u: self._covariance(here, name, u)[name], variance)
            return minimal_residual(product, r, iterations=self.iterations, tolerance=self.tolerance)
        if self.setting.q == "normal":
            weight = live * sigma**2 * self.data_std**2 / (alpha**2 * self.data_std**2 + sigma**2)
        else:
            # DiffPIR's level kappa^2 / strength is infinite where alpha is 0: everything in units of the row's largest.
            weight, least = _relative(self.strength * alpha**2, sigma**2, live)
            variance = variance * least
        return self._solve_diagonal(weight, variance, r)

    def _solve_diagonal(self, weight: Tensor, variance: Tensor | float, r: Tensor) -> Tensor:
        """``(A diag(weight) A^T + variance)^-1 r``, by singular values where all elements of a row weigh the same."""
        if weight[0].numel() == 1:
            return self.measurement.operator.solve(weight.flatten(), variance, r)
        by_row = variance.reshape(-1, *(1,) * (r.ndim - 1)) if isinstance(variance, Tensor) else variance
        return conjugate_gradients(self._product(lambda u: weight * u, by_row), r)

    def _product(self, q: Callable[[Tensor], Tensor], variance: Tensor | float) -> Callable[[Tensor], Tensor]:
        operator = self.measurement.operator
        return lambda u: operator.apply(q(operator.adjoint(u))) + variance * u

    def _covariance(self, here: Evaluated, name: str, u: Tensor) -> dict[str, Tensor]:
        """``Cov[x_0 | x_t] u``: the backward pass of u through the denoiser, times ``sigma^2 / alpha``."""
        gradients = here.pulled(here.block(name)[3], u)
        products = {}
        for other, gradient in gradients.items():
            process, x, t, _ = here.block(other)
            products[other] = tweedie_factor(process, x, t) * gradient
            if other == name:
                silent = (process.coefficients(t, x)[0] == 0) & (spread(t, x) > 0)
                products[other] = torch.where(silent, self.data_std**2 * u, products[other])
        return products

    def _null_space(self, process: Gaussian, x: Tensor, t: Tensor, r: Tensor, live: Tensor) -> Tensor:
        """``A^+ r``, each singular direction held back by ``min(1, kappa s / noise_std)``."""
        operator, noise_std, svd = (
            self.measurement.operator,
            self.measurement.noise_std,
            self.measurement.operator.svd(),
        )
        s = spread(t, x) if self.step is None else self.step(spread(t, x))[1]
        alpha, sigma = process.alpha(s).to(x.dtype), process.sigma(s).to(x.dtype)
        kappa = torch.where(alpha > 0, sigma / torch.where(alpha > 0, alpha, 1.0), torch.inf)
        shared = live[0].numel() == 1 and kappa[0].numel() == 1
        if shared and svd is not None:
            values = svd.values.to(x)
            share = (kappa.reshape(-1, 1) * values / noise_std).clamp(max=1) if noise_std > 0 else 1.0
            return svd.v(share * svd.u_t(r) / values)
        found = operator.adjoint(self._solve_diagonal(live, 0.0, r))
        return found if noise_std == 0 else (kappa / noise_std).clamp(max=1) * found


def _relative(top: Tensor, bottom: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``bottom / top`` of elements as shares of the row's largest, and that largest's inverse ``(n,)``.

    Args:
        top: Not negative; 0 where a weight is infinite.
        bottom: Positive where ``live``.
        live: 1 or 0; dead elements weigh 0.
    """
    inverse = torch.where(live > 0, top / torch.where(live > 0, bottom, 1.0), torch.inf)
    least = inverse.flatten(1).amin(1)
    least = torch.where(least.isfinite(), least, 0.0)  # a row without a live element
    row = least.reshape(-1, *(1,) * (top.ndim - 1))
    tiny = 1e-30  # an infinite weight is the row's largest, and others vanish beside it
    return torch.where(live > 0, (row + tiny) / (inverse + tiny), 0.0), least
