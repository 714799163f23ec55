"""The Gaussian mixture."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.oracles.components import Average, Components, check_probabilities
from clarkia.oracles.roots import draw_index
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.spaces import Continuous


class GaussianMixture:
    """A Gaussian mixture with its exact denoiser, tilts and posteriors; everything is float64 inside.

    Args:
        weights: ``(K,)``, summing to one.
        means: ``(K, d)``.
        covariances: ``(K, d, d)``, variances ``(K, d)``, or one variance a component ``(K,)``.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Weights that do not sum to one, shapes that do not fit, a covariance that is not positive
            semi-definite.
    """

    def __init__(self, weights: Any, means: Any, covariances: Any, *, log_z: Tensor | float = 0.0) -> None:
        self.weights = check_probabilities(weights, "weights")
        self._components = Components.parse(means, covariances)
        if self.weights.shape != self._components.means.shape[:1]:
            raise ValueError(
                f"weights: expected shape ({len(self._components.means)},), found {tuple(self.weights.shape)}."
            )
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)

    @property
    def means(self) -> Tensor:
        """Component means, ``(K, d)``."""
        return self._components.means

    @property
    def covariances(self) -> Tensor:
        """Component covariances, ``(K, d, d)``."""
        return self._components.covariances

    @property
    def space(self) -> Continuous:
        """The space the mixture lives on."""
        return Continuous((self.means.shape[1],))

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, ``(d,)``."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Covariance of the mixture, ``(d, d)``."""
        gap = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + (self.weights * gap.T) @ gap

    def sample(self, num_samples: int, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw ``(num_samples, d)``, float64."""
        return self._components.sample(draw_index(self.weights.log(), num_samples, generator), generator)

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Log-density, float64 ``(n,)``; raises ``ValueError`` where a component has no density."""
        self.space.check(x, "x")
        one = torch.ones(1, 1, dtype=torch.float64)
        return torch.logsumexp(self.weights.log() + self._components.explain(x.double(), one, 0 * one)[0], 1)

    def noisy_log_prob(self, process: Gaussian, x_t: Float[Tensor, "n d"], t: Tensor) -> Float[Tensor, " n"]:
        """Log-density of the noisy law at ``x_t``, float64 ``(n,)``; its gradient is the score."""
        return torch.logsumexp(self._explain(process, x_t, t)[0], 1)

    def denoiser(self, process: Gaussian) -> Any:
        """The exact ``E[x_0 | x_t]`` as a denoiser; elements at t = 0 are observed and come back as they are."""

        def denoise(x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            log_weight, average = self._explain(process, x_t, t)
            return torch.where(spread(t, x_t) > 0, average(log_weight.softmax(1)).to(x_t.dtype), x_t)

        return denoise

    def posterior(self, operator: Any, y: Any, noise_std: Any) -> GaussianMixture:
        """The law given a measurement ``y = operator x + noise_std eps``; its ``log_z`` is the log-evidence.

        Args:
            operator: ``(c, d)`` or ``(d,)``.
            y: ``(c,)`` or a number.
            noise_std: One number or ``(c,)``; 0 for a certain measurement.

        Raises:
            ValueError: Shapes that do not fit, or a measurement whose outcome is certain in advance.
        """
        return self._reweighted(*self._components.observe(operator, y, noise_std))

    def tilt(self, slope: Any, quadratic: Any = None) -> GaussianMixture:
        """The law reweighed by ``exp(slope . x - x' quadratic x / 2)``; ``log_z`` is the factor's log-mean.

        Args:
            slope: ``(d,)``.
            quadratic: A number, a diagonal ``(d,)`` or a symmetric ``(d, d)``, not necessarily positive; None for a
                linear reward.

        Raises:
            ValueError: Shapes that do not fit, or a quadratic under which some component has no finite mass.
        """
        return self._reweighted(*self._components.tilt(slope, quadratic))

    def _reweighted(self, components: Components, log_factor: Tensor) -> GaussianMixture:
        log_weights = self.weights.log() + log_factor
        log_z = torch.logsumexp(log_weights, 0)
        return GaussianMixture((log_weights - log_z).exp(), components.means, components.covariances, log_z=log_z)

    def _explain(self, process: Gaussian, x_t: Tensor, t: Tensor) -> tuple[Tensor, Average]:
        time = spread(t, x_t).double()
        log_density, average = self._components.explain(x_t.double(), process.alpha(time), process.sigma(time))
        return self.weights.log() + log_density, average
