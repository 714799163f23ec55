"""Several Gaussians and what a noisy, partly observed point says about each: the part all Gaussian oracles share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from clarkia.oracles.roots import condition, parse_measurement, parse_reward, reweigh
from clarkia.random import Noise, randn

Average: TypeAlias = Callable[[Tensor], Tensor]
"""From shares ``(n, K)`` of the components to the posterior mean ``(n, d)`` they mean together."""


@dataclass(frozen=True, eq=False)
class Components:
    """Gaussians ``N(means[k], covariances[k])`` in float64.

    Args:
        means: ``(K, d)``.
        covariances: ``(K, d, d)``.
    """

    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        values = self._eigen[0]
        lowest, largest = values.amin(1), values.amax(1)
        if bool((lowest < -1e-10 * largest.clamp(min=1e-300)).any()):
            worst = int(lowest.argmin())
            raise ValueError(
                "covariances: expected positive semi-definite matrices, "
                f"found eigenvalue {float(lowest[worst]):.3g} in component {worst}."
            )

    @classmethod
    def parse(cls, means: Any, covariances: Any) -> Components:
        """Components from means ``(K, d)`` and covariances ``(K, d, d)``, variances ``(K, d)`` or ``(K,)``."""
        means = torch.as_tensor(means, dtype=torch.float64)
        covariances = torch.as_tensor(covariances, dtype=torch.float64)
        if means.ndim != 2:
            raise ValueError(f"means: expected shape (components, d), found {tuple(means.shape)}.")
        count, d = means.shape
        if covariances.shape == (count,) or covariances.ndim == 0:
            covariances = covariances.expand(count).reshape(count, 1).expand(count, d)
        if covariances.shape == (count, d):
            covariances = torch.diag_embed(covariances)
        for name, values in (("means", means), ("covariances", covariances)):
            if not bool(values.isfinite().all()):
                raise ValueError(f"{name}: expected finite numbers, found a NaN or infinity.")
        if covariances.shape != (count, d, d) or not torch.allclose(covariances, covariances.mT, rtol=1e-8, atol=1e-14):
            raise ValueError(
                f"covariances: expected symmetric matrices of shape ({count}, {d}, {d}), or variances of shape "
                f"({count}, {d}) or ({count},), found shape {tuple(covariances.shape)}."
            )
        return cls(means, covariances)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        return tuple(torch.linalg.eigh(self.covariances))  # type: ignore[return-value]

    @cached_property
    def _values(self) -> Tensor:
        return self._eigen[0].clamp(min=0)

    @cached_property
    def _variances(self) -> Tensor | None:
        """Variances ``(K, d)`` where all coordinates are uncorrelated."""
        variances = torch.diagonal(self.covariances, dim1=-2, dim2=-1)
        return None if bool((self.covariances - torch.diag_embed(variances)).any()) else variances

    @cached_property
    def roots(self) -> Tensor:
        """Square roots of the covariances, ``(K, d, d)``."""
        return self._eigen[1] * self._values.sqrt().unsqueeze(-2)

    @cached_property
    def _basis(self) -> Tensor:
        """All eigenvectors side by side, ``(d, K d)``: one product turns a batch into every component's axes."""
        return self._eigen[1].transpose(0, 1).flatten(1)

    def sample(self, component: Tensor, generator: Noise = None) -> Tensor:
        """Draw from the component of each row, float64 ``(n, d)``."""
        noise = randn((len(component), self.means.shape[1]), generator, dtype=torch.float64)
        if self._variances is not None:
            return self.means[component] + self._variances.sqrt()[component] * noise
        if len(self.roots) == 1:
            return self.means + noise @ self.roots[0].mT
        return self.means[component] + (self.roots[component] @ noise.unsqueeze(-1)).squeeze(-1)

    def explain(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Average]:
        """Log-density of ``x_t = alpha x_0 + sigma eps`` under each component, and the mean of ``x_0`` given it.

        Args:
            x_t: float64 ``(n, d)``.
            alpha: float64 ``(n, 1)`` or ``(1, 1)``, or ``(n, d)`` where elements differ.
            sigma: As ``alpha``; 0 where an element is observed.

        Returns:
            ``(n, K)``, and a function from the components' shares ``(n, K)`` to the mean ``(n, d)``.

        Raises:
            ValueError: Another shape, or an element without noise in a component without variance, where no density
                exists.
        """
        count, d = self.means.shape
        check_points(x_t, d)
        alpha, sigma = alpha.unsqueeze(1), sigma.unsqueeze(1)
        if self._variances is not None:
            gap = x_t.unsqueeze(1) - alpha * self.means
            log_density, shift = _explain_independent(gap, self._variances, alpha, sigma)
            return log_density, lambda shares: shares @ self.means + (shares.unsqueeze(-1) * shift).sum(1)
        if alpha.shape[-1] == 1 and sigma.shape[-1] == 1:
            centre = (self.means.unsqueeze(1) @ self._eigen[1]).squeeze(1)
            gap = (x_t @ self._basis).unflatten(1, (count, d)) - alpha * centre
            log_density, turned = _explain_independent(gap, self._values, alpha, sigma)
            return (
                log_density,
                lambda shares: shares @ self.means + (shares.unsqueeze(-1) * turned).flatten(1) @ self._basis.mT,
            )
        log_density, means = self._explain_jointly(x_t.unsqueeze(1) - alpha * self.means, alpha, sigma)
        return log_density, lambda shares: (shares.unsqueeze(-1) * means).sum(1)

    def _explain_jointly(self, gap: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The same where elements have their own noise: one matrix a row and component."""
        alpha = alpha.expand(*alpha.shape[:-1], gap.shape[-1])
        cross = self.covariances * alpha.unsqueeze(-2)  # cov(x_0, x_t), (n, K, d, d)
        covariance = alpha.unsqueeze(-1) * cross + torch.diag_embed((sigma**2).expand(gap.shape))
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()):
            raise ValueError("x_t: expected noise or variance in every direction, found an observed one with neither.")
        white = torch.linalg.solve_triangular(factor, gap.unsqueeze(-1), upper=False)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
        log_density = -0.5 * white.squeeze(-1).square().sum(-1) - log_det - 0.5 * gap.shape[-1] * math.log(2 * math.pi)
        solved = torch.linalg.solve_triangular(factor.mT, white, upper=True)
        return log_density, self.means + (cross @ solved).squeeze(-1)

    def observe(self, operator: Any, y: Any, noise_std: Any) -> tuple[Components, Tensor]:
        """Condition on ``y = operator x + noise_std eps``: the new components and each one's log-evidence ``(K,)``."""
        measurement = parse_measurement(operator, y, noise_std, self.means.shape[1])
        means, roots, evidence = condition(self.means.unsqueeze(1), self.roots, *measurement)
        return Components(means.squeeze(1), roots @ roots.mT), evidence.squeeze(1)

    def tilt(self, slope: Any, quadratic: Any = None) -> tuple[Components, Tensor]:
        """Reweigh by ``exp(slope . x - x' quadratic x / 2)``; the new components and each one's log-mean of it, (K,).

        Args:
            slope: ``(d,)``, or ``(K, d)`` with one a component.
            quadratic: A number, ``(d,)`` or symmetric ``(d, d)``; None for a linear reward.
        """
        slope, matrix = parse_reward(slope, quadratic, tuple(self.means.shape))
        slope = slope.expand_as(self.means).unsqueeze(1)
        means, roots, log_mean = reweigh(self.means.unsqueeze(1), self.roots, slope, matrix)
        covariances = self.covariances if matrix is None else roots @ roots.mT
        return Components(means.squeeze(1), covariances), log_mean.squeeze(1)


def check_points(x_t: Tensor, d: int) -> None:
    """Raise ``ValueError`` unless ``x_t`` is ``(n, d)``; a narrower state would broadcast unseen."""
    if x_t.ndim != 2 or x_t.shape[1] != d:
        raise ValueError(f"x_t: expected shape (n, {d}), found {tuple(x_t.shape)}.")


def check_probabilities(values: Any, name: str, *, per_row: bool = False) -> Tensor:
    """Probabilities as float64, renormalised.

    Args:
        values: Any shape.
        name: The argument's name in the error.
        per_row: Whether each row of the last axis sums to one, rather than the whole.

    Raises:
        ValueError: A negative number, a NaN, or a sum further than 1e-6 from one.
    """
    probabilities = torch.as_tensor(values, dtype=torch.float64)
    total = probabilities.sum(-1, keepdim=True) if per_row else probabilities.sum()
    off = (total - 1).abs()
    if not bool((probabilities >= 0).all()) or bool((off > 1e-6).any()):
        worst = float(total.flatten()[off.argmax()])
        raise ValueError(
            f"{name}: expected non-negative numbers that sum to one, found sum {worst:.6g} "
            f"and minimum {float(probabilities.min()):.3g}."
        )
    return probabilities / total


def _explain_independent(gap: Tensor, values: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and posterior shift of uncorrelated coordinates of variance ``values``."""
    variance = alpha**2 * values + sigma**2
    if not bool((variance > 0).all()):
        raise ValueError("x_t: expected noise or variance in every element, found an observed one with neither.")
    log_density = -0.5 * (gap**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
    return log_density, alpha * values / variance * gap
