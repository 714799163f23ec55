"""Data smoothed by one kernel: the law a denoiser that has learned its training set by heart would sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.oracles.components import check_points, check_probabilities
from clarkia.oracles.roots import condition, draw_index, parse_measurement, parse_reward, reweigh
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise, randn
from clarkia.spaces import Continuous

BLOCK = 2**22
"""Numbers of the largest table of queries by data points that is made at once (32 MiB)."""


class KernelSmoothed:
    """The mixture of ``N(data[i], B B')`` over all data points, exact for thousands of them.

    All components share one covariance, so densities and posterior means are matrix products of queries with data; no
    table of queries by data by columns is ever made. Tilts and posteriors keep that form: they move the points,
    reweigh them and change the kernel.

    Args:
        data: ``(N, d)``.
        bandwidth: Standard deviation of the kernel, ``b`` for all columns (``B = b I``) or one a column ``(d,)``; or
            the matrix B itself, ``(d, d)``.
        weights: ``(N,)``, summing to one; None for equal weights.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: A bandwidth that is not positive, weights that do not sum to one, shapes that do not fit.
    """

    def __init__(self, data: Any, bandwidth: Any, *, weights: Any = None, log_z: Tensor | float = 0.0) -> None:
        self.data = torch.as_tensor(data, dtype=torch.float64)
        if self.data.ndim != 2 or not len(self.data) or not bool(self.data.isfinite().all()):
            raise ValueError(f"data: expected finite numbers of shape (N, d), found shape {tuple(self.data.shape)}.")
        count, d = self.data.shape
        self.weights = check_probabilities(torch.full((count,), 1 / count) if weights is None else weights, "weights")
        if self.weights.shape != (count,):
            raise ValueError(f"weights: expected shape ({count},), found {tuple(self.weights.shape)}.")
        self.bandwidth = torch.as_tensor(bandwidth, dtype=torch.float64)
        if self.bandwidth.shape not in ((), (d,), (d, d)) or not bool(self.bandwidth.isfinite().all()):
            raise ValueError(
                f"bandwidth: expected a number, {(d,)} or {(d, d)} finite numbers, "
                f"found shape {tuple(self.bandwidth.shape)}."
            )
        if self.bandwidth.ndim < 2 and not bool((self.bandwidth > 0).all()):
            raise ValueError(f"bandwidth: expected positive numbers, found {float(self.bandwidth.min())}.")
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)
        self._log_weights = self.weights.log()
        # Distances are differences of squares: measured from the middle of the data they lose no digits.
        self._centre = self.weights @ self.data
        self._offsets = self.data - self._centre
        if self.bandwidth.ndim < 2:
            self._axes, self._values, self._turned = None, self.bandwidth**2, self._offsets
        else:
            self._axes, scale, _ = torch.linalg.svd(self.bandwidth)
            self._values, self._turned = scale**2, self._offsets @ self._axes
        self._squares = self._turned**2

    @property
    def space(self) -> Continuous:
        """The space the law lives on."""
        return Continuous((self.data.shape[1],))

    @property
    def root(self) -> Tensor:
        """Square root B of the kernel's covariance, ``(d, d)``."""
        d = self.data.shape[1]
        return self.bandwidth if self.bandwidth.ndim == 2 else torch.diag(self.bandwidth.expand(d))

    def sample(self, num_samples: int, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw ``(num_samples, d)``, float64."""
        index = draw_index(self._log_weights, num_samples, generator)
        noise = randn((num_samples, self.data.shape[1]), generator, dtype=torch.float64)
        return self.data[index] + (noise @ self.bandwidth.mT if self.bandwidth.ndim == 2 else noise * self.bandwidth)

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Log-density, float64 ``(n,)``."""
        self.space.check(x, "x")
        one = torch.ones(1, 1, dtype=torch.float64)
        return self._blocks(_density, x.double(), one, 0 * one)

    def noisy_log_prob(self, process: Gaussian, x_t: Float[Tensor, "n d"], t: Tensor) -> Float[Tensor, " n"]:
        """Log-density of the noisy law at ``x_t``, float64 ``(n,)``; its gradient is the score."""
        time = spread(t, x_t).double()
        return self._blocks(_density, x_t.double(), process.alpha(time), process.sigma(time))

    def denoiser(self, process: Gaussian) -> Any:
        """The exact ``E[x_0 | x_t]`` as a denoiser; elements at t = 0 are observed and come back as they are."""

        def denoise(x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            time = spread(t, x_t)
            alpha, sigma = process.alpha(time.double()), process.sigma(time.double())
            return torch.where(time > 0, self._blocks(_mean, x_t.double(), alpha, sigma).to(x_t.dtype), x_t)

        return denoise

    def tilt(self, slope: Any, quadratic: Any = None) -> KernelSmoothed:
        """The law reweighed by ``exp(slope . x - x' quadratic x / 2)``; arguments as `GaussianMixture.tilt`'s."""
        slope, matrix = parse_reward(slope, quadratic, (self.data.shape[1],))
        means, roots, log_mean = reweigh(self.data.unsqueeze(0), self.root.unsqueeze(0), slope, matrix)
        return self._reweighted(means, roots if matrix is not None else None, log_mean)

    def posterior(self, operator: Any, y: Any, noise_std: Any) -> KernelSmoothed:
        """The law given ``y = operator x + noise_std eps``; arguments as `GaussianMixture.posterior`'s."""
        measurement = parse_measurement(operator, y, noise_std, self.data.shape[1])
        return self._reweighted(*condition(self.data.unsqueeze(0), self.root.unsqueeze(0), *measurement))

    def _reweighted(self, means: Tensor, roots: Tensor | None, log_factor: Tensor) -> KernelSmoothed:
        log_weights = self._log_weights + log_factor[0]
        log_z = torch.logsumexp(log_weights, 0)
        bandwidth = self.bandwidth if roots is None else roots[0]
        return KernelSmoothed(means[0], bandwidth, weights=(log_weights - log_z).exp(), log_z=log_z)

    def _blocks(self, answer: Callable[..., Tensor], x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """``answer`` of what `_explain` finds, block of rows by block of rows."""
        count, d = self.data.shape
        check_points(x_t, d)
        # One time a row keeps the kernel's axes; times by element mix them, and each row then has axes of its own.
        jointly = self._axes is not None and (alpha.shape[-1] > 1 or sigma.shape[-1] > 1)
        explain = self._explain_jointly if jointly else self._explain
        rows = max(1, BLOCK // (count * (d if jointly else 1)))
        parts = []
        for start in range(0, max(1, len(x_t)), rows):
            block = slice(start, start + rows)
            times = [part if len(part) == 1 else part[block] for part in (alpha, sigma)]
            parts.append(answer(*explain(x_t[block], *times)))
        return torch.cat(parts)

    def _explain(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Log-weight of each point given each row, up to a constant ``(n,)`` a row, and how shares become a mean.

        With ``v = alpha^2 b^2 + sigma^2`` the point c explains y with ``alpha y.c / v - alpha^2 |c|^2 / 2v``, and
        ``E[x_0 | y, c] = c + (alpha b^2 / v) (y - alpha c)``.
        """
        y = x_t - alpha * self._centre
        y = y if self._axes is None else y @ self._axes
        variance = alpha**2 * self._values + sigma**2  # (n, 1) where all columns share it
        if not bool((variance > 0).all()):
            raise ValueError("x_t: expected noise or bandwidth in every direction, found an observed one with neither.")
        slope, bend = alpha / variance * y, alpha**2 / variance
        square = bend * self._squares.sum(1) if bend.shape[-1] == 1 else bend @ self._squares.mT
        log_weights = self._log_weights + slope @ self._turned.mT - 0.5 * square
        constant = -0.5 * (y**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)

        def average(shares: Tensor) -> Tensor:
            mean = shares @ self._turned
            mean = mean + alpha * self._values / variance * (y - alpha * mean)
            return self._centre + (mean if self._axes is None else mean @ self._axes.mT)

        return log_weights, constant, average

    def _explain_jointly(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """The same where a row's elements have their own noise: one ``(d, d)`` matrix a row."""
        y = x_t - alpha * self._centre
        alpha, sigma = alpha.expand(y.shape), sigma.expand(y.shape)
        cross = self.root @ self.root.mT * alpha.unsqueeze(-2)  # cov(x_0, x_t), (n, d, d)
        factor, failed = torch.linalg.cholesky_ex(alpha.unsqueeze(-1) * cross + torch.diag_embed(sigma**2))
        if bool(failed.any()):
            raise ValueError("x_t: expected noise or bandwidth in every direction, found an observed one with neither.")
        white_y = torch.linalg.solve_triangular(factor, y.unsqueeze(-1), upper=False)
        white = torch.linalg.solve_triangular(factor, torch.diag_embed(alpha), upper=False)
        points = self._offsets @ white.mT  # (n, N, d)
        log_weights = self._log_weights - 0.5 * (points - white_y.mT).square().sum(-1)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
        constant = -log_det - 0.5 * y.shape[-1] * math.log(2 * math.pi)

        def average(shares: Tensor) -> Tensor:
            mean = shares @ self._offsets
            rest = torch.cholesky_solve((y - alpha * mean).unsqueeze(-1), factor)
            return self._centre + mean + (cross @ rest).squeeze(-1)

        return log_weights, constant, average


def _density(log_weights: Tensor, constant: Tensor, average: Any) -> Tensor:
    return constant + torch.logsumexp(log_weights, 1)


def _mean(log_weights: Tensor, constant: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
    return average(log_weights.softmax(1))
