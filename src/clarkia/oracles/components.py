"""Several Gaussians and what a noisy, partly observed point says about each: the part all Gaussian oracles share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clarkia.random import Noise, randn


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
        eigenvalues, vectors = torch.linalg.eigh(self.covariances)
        lowest, largest = eigenvalues.amin(1), eigenvalues.amax(1)
        if bool((lowest < -1e-10 * largest.clamp(min=1e-300)).any()):
            worst = int(lowest.argmin())
            raise ValueError(
                "covariances: expected positive semi-definite matrices, "
                f"found eigenvalue {float(lowest[worst]):.3g} in component {worst}."
            )
        off_diagonal = self.covariances - torch.diag_embed(torch.diagonal(self.covariances, dim1=-2, dim2=-1))
        object.__setattr__(self, "_spectrum", (eigenvalues.clamp(min=0), vectors))
        object.__setattr__(self, "_diagonal", not bool(off_diagonal.any()))

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
        if covariances.shape != (count, d, d) or not torch.allclose(covariances, covariances.mT, rtol=1e-8, atol=0):
            raise ValueError(
                f"covariances: expected symmetric matrices of shape ({count}, {d}, {d}), or variances of shape "
                f"({count}, {d}) or ({count},), found shape {tuple(covariances.shape)}."
            )
        return cls(means, covariances)

    def sample(self, component: Tensor, generator: Noise = None) -> Tensor:
        """Draw from the component of each row, float64 ``(n, d)``."""
        values, vectors = self._spectrum  # type: ignore[attr-defined]
        noise = randn((len(component), self.means.shape[1]), generator, dtype=torch.float64)
        root = vectors * values.sqrt().unsqueeze(-2)
        if len(root) == 1:
            return self.means + noise @ root[0].T
        return self.means[component] + torch.einsum("nij,nj->ni", root[component], noise)

    def explain(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density of ``x_t = alpha x_0 + sigma eps`` under each component, and the mean of ``x_0`` given it.

        Args:
            x_t: float64 ``(n, d)``.
            alpha: float64 ``(n, 1)``, or ``(n, d)`` where elements differ.
            sigma: As ``alpha``; 0 where an element is observed.

        Returns:
            ``(n, K)`` and ``(n, K, d)``.

        Raises:
            ValueError: An element without noise in a component without variance, where no density exists.
        """
        alpha, sigma = alpha.unsqueeze(1), sigma.unsqueeze(1)
        gap = x_t.unsqueeze(1) - alpha * self.means
        if self._diagonal:  # type: ignore[attr-defined]
            values = torch.diagonal(self.covariances, dim1=-2, dim2=-1)
            log_density, shift = _explain_independent(gap, values, alpha, sigma)
            return log_density, self.means + shift
        if alpha.shape[-1] == 1:
            values, vectors = self._spectrum  # type: ignore[attr-defined]
            rotated = torch.einsum("kij,nki->nkj", vectors, gap)
            log_density, shift = _explain_independent(rotated, values, alpha, sigma)
            return log_density, self.means + torch.einsum("kij,nkj->nki", vectors, shift)
        return self._explain_jointly(gap, alpha, sigma)

    def _explain_jointly(self, gap: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
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
        operator = torch.atleast_2d(torch.as_tensor(operator, dtype=torch.float64))
        y = torch.atleast_1d(torch.as_tensor(y, dtype=torch.float64))
        d = self.means.shape[1]
        if operator.shape[1] != d or y.shape != operator.shape[:1]:
            raise ValueError(
                f"operator, y: expected shapes (k, {d}) and (k,), found {tuple(operator.shape)} and {tuple(y.shape)}."
            )
        noise = torch.as_tensor(noise_std, dtype=torch.float64).expand(y.shape)
        gap = y - self.means @ operator.T
        cross = self.covariances @ operator.T  # (K, d, k)
        covariance = operator @ cross + torch.diag(noise**2)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()):
            raise ValueError("noise_std: expected a measurement with noise, found one that is certain in advance.")
        gain = torch.cholesky_solve(cross.mT, factor).mT
        means = self.means + (gain @ gap.unsqueeze(-1)).squeeze(-1)
        rest = torch.eye(d, dtype=torch.float64) - gain @ operator
        covariances = rest @ self.covariances @ rest.mT + (gain * noise**2) @ gain.mT  # Joseph's form stays symmetric
        white = torch.linalg.solve_triangular(factor, gap.unsqueeze(-1), upper=False).squeeze(-1)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
        evidence = -0.5 * white.square().sum(-1) - log_det - 0.5 * len(y) * math.log(2 * math.pi)
        return Components(means, 0.5 * (covariances + covariances.mT)), evidence

    def tilt(self, slope: Any) -> tuple[Components, Tensor]:
        """Reweigh by ``exp(slope . x)``; the new components and the log-mean of that factor under each, ``(K,)``."""
        slope = torch.as_tensor(slope, dtype=torch.float64)
        if slope.shape != self.means.shape[1:]:
            raise ValueError(f"slope: expected shape {tuple(self.means.shape[1:])}, found {tuple(slope.shape)}.")
        shift = self.covariances @ slope
        return Components(self.means + shift, self.covariances), self.means @ slope + 0.5 * shift @ slope


def check_probabilities(values: Any, name: str) -> Tensor:
    """Probabilities as float64, renormalised; raises ``ValueError`` unless non-negative with sum 1 to 1e-6."""
    probabilities = torch.as_tensor(values, dtype=torch.float64)
    if not bool((probabilities >= 0).all()) or abs(float(probabilities.sum()) - 1) > 1e-6:
        raise ValueError(
            f"{name}: expected non-negative numbers that sum to one, found sum {float(probabilities.sum()):.6g} "
            f"and minimum {float(probabilities.min()):.3g}."
        )
    return probabilities / probabilities.sum()


def _explain_independent(gap: Tensor, values: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and posterior shift of uncorrelated coordinates of variance ``values``."""
    variance = alpha**2 * values + sigma**2
    if not bool((variance > 0).all()):
        raise ValueError("x_t: expected noise or variance in every element, found an observed one with neither.")
    log_density = -0.5 * (gap**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
    return log_density, alpha * values / variance * gap
