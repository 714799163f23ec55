"""The mixture of low-rank Gaussians: data near several subspaces, in closed form without ``d x d`` matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.oracles.components import Average, check_points, check_probabilities
from clarkia.oracles.roots import condition, draw_index, parse_measurement, parse_reward, reweigh
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise, randn
from clarkia.spaces import Continuous


class MixtureOfLowRank:
    """The mixture of ``N(means[k], bases[k] bases[k]')``, each on a subspace of its own.

    The law has no density; its noisy versions do. Elements at t = 0 are exact evidence about where on which subspace a
    point lies: the components compete by their density on the observed part of their subspace, those that pass nearest
    to it alone.

    Args:
        weights: ``(K,)``, summing to one.
        bases: One ``(d, r_k)`` a component (of any ranks ``r_k <= d``), or ``(K, d, r)``. Their columns need not be
            orthonormal.
        means: ``(K, d)``; None for 0.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Weights that do not sum to one, shapes that do not fit.

    Source: Diffusion Models Learn Low-Dimensional Distributions via Subspace Clustering (2024).
    """

    def __init__(
        self, weights: Any, bases: Tensor | Sequence[Any], means: Any = None, *, log_z: Tensor | float = 0.0
    ) -> None:
        self.weights = check_probabilities(weights, "weights")
        self.bases = _stack(bases)
        count, d, _ = self.bases.shape
        self.means = torch.zeros(count, d, dtype=torch.float64) if means is None else torch.as_tensor(means).double()
        if self.weights.shape != (count,) or self.means.shape != (count, d):
            raise ValueError(
                f"weights, means: expected shapes ({count},) and ({count}, {d}) as the bases have, "
                f"found {tuple(self.weights.shape)} and {tuple(self.means.shape)}."
            )
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)
        self._axes, self._scales, _ = torch.linalg.svd(self.bases, full_matrices=False)

    @property
    def space(self) -> Continuous:
        """The space the law lives on."""
        return Continuous((self.bases.shape[1],))

    def sample(self, num_samples: int, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw ``(num_samples, d)``, float64."""
        component = draw_index(self.weights.log(), num_samples, generator)
        noise = randn((num_samples, self.bases.shape[2]), generator, dtype=torch.float64)
        every = torch.einsum("kdr,nr->nkd", self.bases, noise) + self.means
        return every[torch.arange(num_samples), component]

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Raises ``ValueError``: a law on subspaces has no density. `noisy_log_prob` has one at every t > 0."""
        raise ValueError(
            f"x: expected noise on it, found clean points, where a law on subspaces of rank {self.bases.shape[2]} in "
            f"{self.bases.shape[1]} dimensions has no density; use noisy_log_prob."
        )

    def noisy_log_prob(self, process: Gaussian, x_t: Float[Tensor, "n d"], t: Tensor) -> Float[Tensor, " n"]:
        """Log-density of the noisy law at ``x_t``, float64 ``(n,)``; its gradient is the score.

        Over elements at t = 0 it is the density on the observed part of the subspace; minus infinity off all of them.
        """
        log_weights, on_support, _ = self._explain(process, x_t, t)
        return torch.where(on_support, torch.logsumexp(log_weights, 1), -torch.inf)

    def denoiser(self, process: Gaussian) -> Any:
        """The exact ``E[x_0 | x_t]`` as a denoiser; elements at t = 0 are observed and come back as they are."""

        def denoise(x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            log_weights, _, average = self._explain(process, x_t, t)
            return torch.where(spread(t, x_t) > 0, average(log_weights.softmax(1)).to(x_t.dtype), x_t)

        return denoise

    def tilt(self, slope: Any, quadratic: Any = None) -> MixtureOfLowRank:
        """The law reweighed by ``exp(slope . x - x' quadratic x / 2)``; arguments as `GaussianMixture.tilt`'s."""
        slope, matrix = parse_reward(slope, quadratic, (self.means.shape[1],))
        return self._reweighted(*reweigh(self.means.unsqueeze(1), self.bases, slope, matrix))

    def posterior(self, operator: Any, y: Any, noise_std: Any) -> MixtureOfLowRank:
        """The law given ``y = operator x + noise_std eps``; arguments as `GaussianMixture.posterior`'s."""
        measurement = parse_measurement(operator, y, noise_std, self.means.shape[1])
        return self._reweighted(*condition(self.means.unsqueeze(1), self.bases, *measurement))

    def _reweighted(self, means: Tensor, roots: Tensor, log_factor: Tensor) -> MixtureOfLowRank:
        log_weights = self.weights.log() + log_factor.squeeze(1)
        log_z = torch.logsumexp(log_weights, 0)
        return MixtureOfLowRank((log_weights - log_z).exp(), roots, means.squeeze(1), log_z=log_z)

    def _explain(self, process: Gaussian, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Average]:
        """Log-weights ``(n, K)``, which rows can be ``(n,)``, and how shares become a posterior mean."""
        check_points(x_t, self.means.shape[1])
        time = spread(t, x_t).double()
        alpha, sigma = process.alpha(time), process.sigma(time)
        precision = float(torch.finfo(x_t.dtype).eps)
        x_t = x_t.double()
        if alpha.shape[-1] == 1 and sigma.shape[-1] == 1 and bool((sigma > 0).all()):
            log_density, average = self._explain_rows(x_t, alpha, sigma)
            on_support = torch.ones(len(x_t), dtype=torch.bool)
        else:
            log_density, on_support, average = self._explain_elements(x_t, alpha, sigma, precision)
        return self.weights.log() + log_density, on_support, average

    def _explain_rows(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Average]:
        """One noise a row.

        With ``c = U'(x - alpha mu)`` and U orthonormal with scales s, the noisy variance is ``alpha^2 s^2 + sigma^2``
        along U and ``sigma^2`` across it.
        """
        _, d, rank = self._axes.shape
        alpha, sigma = alpha.unsqueeze(1), sigma.unsqueeze(1)
        gap = x_t.unsqueeze(1) - alpha * self.means
        along = torch.einsum("kdr,nkd->nkr", self._axes, gap)
        across = gap - torch.einsum("kdr,nkr->nkd", self._axes, along)  # subtracted as vectors, so no digits cancel
        variance = alpha**2 * self._scales**2 + sigma**2
        quadratic = (along**2 / variance).sum(-1) + across.square().sum(-1) / sigma.squeeze(-1) ** 2
        log_det = variance.log().sum(-1) + (d - rank) * 2 * sigma.squeeze(-1).log()
        log_density = -0.5 * (quadratic + log_det + d * math.log(2 * math.pi))
        shift = alpha * self._scales**2 / variance * along

        def average(shares: Tensor) -> Tensor:
            return shares @ self.means + torch.einsum("kdr,nkr->nd", self._axes, shares.unsqueeze(-1) * shift)

        return log_density, average

    def _explain_elements(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, precision: float
    ) -> tuple[Tensor, Tensor, Average]:
        """A noise for each element, none at observed ones, in the coordinates z ~ N(0, I) of each subspace.

        Observed elements are equations ``A z = y``: they fix z on the row space of A and leave it standard normal on
        its null space N. The noisy elements are then evidence of precision ``N J N`` about what is left.
        """
        _, d, rank = self.bases.shape
        alpha, sigma = (part.unsqueeze(1).expand(len(x_t), 1, d) for part in (alpha, sigma))
        noisy = sigma > 0
        gap = x_t.unsqueeze(1) - alpha * self.means  # (n, K, d)
        outer = (self.bases.unsqueeze(-1) * self.bases.unsqueeze(-2)).flatten(2)  # (K, d, r r)

        def gram(weight: Tensor) -> Tensor:  # U' diag(weight) U for each row and component
            return torch.einsum("nd,kdr->nkr", weight.squeeze(1), outer).unflatten(-1, (rank, rank))

        def pull(values: Tensor) -> Tensor:  # U' values
            return torch.einsum("kdr,nkd->nkr", self.bases, values)

        values, vectors = torch.linalg.eigh(gram((~noisy).double()))
        fixed = values > rank * 1e-13 * values.amax(-1, keepdim=True).clamp(min=1e-300)
        safe = torch.where(fixed, values, 1.0)
        observed = torch.where(noisy, 0.0, gap)
        turned = (pull(observed).unsqueeze(-2) @ vectors).squeeze(-2) / safe * fixed
        z = (vectors @ turned.unsqueeze(-1)).squeeze(-1)
        rest = gap - alpha * torch.einsum("kdr,nkr->nkd", self.bases, z)
        dims = fixed.sum(-1)
        log_density = -0.5 * (turned.square().sum(-1) + safe.log().sum(-1) + dims.double() * math.log(2 * math.pi))
        log_density, on_support = _nearest(log_density, torch.where(noisy, 0.0, rest), observed, dims, precision)

        free = torch.where(fixed, 0.0, 1.0)
        null = (vectors * free.unsqueeze(-2)) @ vectors.mT
        variance = torch.where(noisy, sigma**2, 1.0)
        inner = null @ gram(torch.where(noisy, alpha**2 / variance, 0.0)) @ null
        factor = torch.linalg.cholesky(inner + torch.eye(rank, dtype=inner.dtype))
        score = (null @ pull(torch.where(noisy, alpha / variance, 0.0) * rest).unsqueeze(-1)).contiguous()
        white = torch.linalg.solve_triangular(factor, score, upper=False).squeeze(-1)
        quadratic = torch.where(noisy, rest**2 / variance, 0.0).sum(-1) - white.square().sum(-1)
        log_det = 2 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1) + variance.log().sum(-1)
        log_density = log_density - 0.5 * (quadratic + log_det + noisy.double().sum(-1) * math.log(2 * math.pi))
        z = z + (null @ torch.cholesky_solve(score, factor)).squeeze(-1)

        def average(shares: Tensor) -> Tensor:
            return shares @ self.means + torch.einsum("kdr,nkr->nd", self.bases, shares.unsqueeze(-1) * z)

        return log_density, on_support, average


def _nearest(
    log_density: Tensor, miss: Tensor, observed: Tensor, dims: Tensor, precision: float
) -> tuple[Tensor, Tensor]:
    """Keep the components that agree with the observed elements, or come nearest; of these, those of lowest dimension.

    A law on fewer dimensions is infinitely denser where it passes. Agreement is up to the state's own precision.
    """
    miss, scale = miss.norm(dim=-1), observed.norm(dim=-1)
    agrees = miss <= precision**0.5 * scale
    on_support = agrees.any(1)
    kept = torch.where(on_support.unsqueeze(1), agrees, miss <= miss.amin(1, keepdim=True))
    lowest = torch.where(kept, dims, dims.amax() + 1).amin(1, keepdim=True)
    return torch.where(kept & (dims == lowest), log_density, -torch.inf), on_support


def _stack(bases: Tensor | Sequence[Any]) -> Tensor:
    """Bases as ``(K, d, r)``, narrower ones filled up with columns of zeros."""
    parts = [torch.as_tensor(basis, dtype=torch.float64) for basis in bases]
    shapes = [tuple(part.shape) for part in parts]
    if not parts or any(len(shape) != 2 or not 0 < shape[1] <= shape[0] for shape in shapes):
        raise ValueError(f"bases: expected matrices of shape (d, r) with 0 < r <= d, found {shapes}.")
    if len({shape[0] for shape in shapes}) > 1 or not all(bool(part.isfinite().all()) for part in parts):
        raise ValueError(f"bases: expected finite matrices with the same number of rows, found {shapes}.")
    rank = max(shape[1] for shape in shapes)
    return torch.stack([torch.nn.functional.pad(part, (0, rank - part.shape[1])) for part in parts])
