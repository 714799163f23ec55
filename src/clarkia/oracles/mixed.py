"""Categories with a Gaussian for each combination of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.oracles.components import Components
from clarkia.oracles.joint import FiniteJoint
from clarkia.processes import Mixed, block_time, spread
from clarkia.random import Noise
from clarkia.spaces import Continuous
from clarkia.spaces import Mixed as MixedSpace


class MixedJoint:
    """A finite joint law of categories and, given each combination, a Gaussian; exact denoiser, tilts and posteriors.

    Args:
        probabilities: ``(K_1, ..., K_m)``, summing to one.
        means: ``(K_1, ..., K_m, d)``.
        covariances: ``(K_1, ..., K_m, d, d)``, variances ``(K_1, ..., K_m, d)``, or one variance for all.
        numeric: Name of the continuous block.
        categorical: Name of the categorical block.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Probabilities that do not sum to one, shapes that do not fit, a covariance that is not positive
            semi-definite.
    """

    def __init__(
        self,
        probabilities: Any,
        means: Any,
        covariances: Any,
        *,
        numeric: str = "numeric",
        categorical: str = "levels",
        log_z: Tensor | float = 0.0,
    ) -> None:
        self.categories = FiniteJoint(probabilities)
        self.numeric, self.categorical = numeric, categorical
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)
        table = self.categories.probabilities.shape
        means = torch.as_tensor(means, dtype=torch.float64)
        covariances = torch.as_tensor(covariances, dtype=torch.float64)
        if means.shape[:-1] != table:
            raise ValueError(f"means: expected shape {(*table, 'd')}, found {tuple(means.shape)}.")
        if covariances.ndim and covariances.shape[: len(table)] != table:
            raise ValueError(f"covariances: expected leading shape {tuple(table)}, found {tuple(covariances.shape)}.")
        if covariances.ndim:
            covariances = covariances.flatten(0, len(table) - 1)
        self._components = Components.parse(means.flatten(0, -2), covariances)

    @property
    def space(self) -> MixedSpace:
        """The space the law lives on."""
        d = self._components.means.shape[1]
        return MixedSpace(**{self.numeric: Continuous((d,)), self.categorical: self.categories.space})

    @property
    def means(self) -> Tensor:
        """Mean of each combination, ``(K_1, ..., K_m, d)``."""
        return self._components.means.reshape(*self.categories.probabilities.shape, -1)

    def sample(self, num_samples: int, *, generator: Noise = None) -> dict[str, Tensor]:
        """Draw a state of ``num_samples`` rows, float64 and int64."""
        cells = self.categories.sample_cells(num_samples, generator=generator)
        numeric = self._components.sample(cells, generator)
        return {self.numeric: numeric, self.categorical: self.categories.states[cells]}

    def log_prob(self, x: Mapping[str, Tensor]) -> Float[Tensor, " n"]:
        """Log-density (of the numbers, with probability of the categories), float64 ``(n,)``."""
        numeric = x[self.numeric].double()
        one = torch.ones(len(numeric), 1, dtype=torch.float64)
        log_density = self._components.explain(numeric, one, 0 * one)[0]
        cells = self.categories.cell(x[self.categorical])
        return self.categories.log_prob(x[self.categorical]) + log_density.gather(1, cells[:, None]).squeeze(1)

    def noisy_log_prob(self, process: Mixed, x_t: Mapping[str, Tensor], t: Any) -> Float[Tensor, " n"]:
        """Log-density of the noisy numbers with the visible categories, float64 ``(n,)``."""
        return torch.logsumexp(self._explain(process, x_t, t)[0], 1)

    def denoiser(self, process: Mixed) -> Any:
        """The exact posterior of both blocks; elements at t = 0 are observed and come back as they are."""

        def denoise(x_t: Mapping[str, Tensor], t: Any, condition: Any = None) -> dict[str, Tensor]:
            numeric, levels = x_t[self.numeric], x_t[self.categorical]
            log_weights, means = self._explain(process, x_t, t)
            # Only possible combinations have weight; an impossible row (all minus infinity) falls back to the table.
            best = log_weights.amax(1, keepdim=True)
            weights = torch.where(best.isfinite(), (log_weights - torch.where(best.isfinite(), best, 0.0)).exp(), 0.0)
            total = weights.sum(1, keepdim=True)
            shares = torch.where(total > 0, weights / total.clamp(min=1e-300), self.categories.probabilities.flatten())
            x0_hat = torch.einsum("nk,nkd->nd", shares, means).to(numeric.dtype)
            observed = spread(block_time(t, self.numeric), numeric) == 0
            log_probs = self.categories.predict(process.blocks[self.categorical], levels, weights)  # type: ignore[arg-type]
            return {
                self.numeric: torch.where(observed, numeric, x0_hat),
                self.categorical: log_probs.to(numeric.dtype),
            }

        return denoise

    def tilt(self, reward: Any) -> MixedJoint:
        """The law reweighed by ``exp(reward)`` of the categories, a table ``(K_1, ..., K_m)``."""
        tilted = self.categories.tilt(reward)
        return self._with(tilted.probabilities, self._components, tilted.log_z)

    def posterior(self, operator: Any, y: Any, noise_std: Any) -> MixedJoint:
        """The law given a measurement ``y = operator x + noise_std eps`` of the numbers; ``log_z`` is its evidence."""
        components, evidence = self._components.observe(operator, y, noise_std)
        tilted = self.categories.tilt(evidence.reshape(self.categories.probabilities.shape))
        return self._with(tilted.probabilities, components, tilted.log_z)

    def _with(self, probabilities: Tensor, components: Components, log_z: Tensor) -> MixedJoint:
        table = probabilities.shape
        means, covariances = (
            part.reshape(*table, *part.shape[1:]) for part in (components.means, components.covariances)
        )
        names = {"numeric": self.numeric, "categorical": self.categorical}
        return MixedJoint(probabilities, means, covariances, **names, log_z=log_z)

    def _explain(self, process: Mixed, x_t: Mapping[str, Tensor], t: Any) -> tuple[Tensor, Tensor]:
        numeric, levels = x_t[self.numeric], x_t[self.categorical]
        time = spread(block_time(t, self.numeric), numeric).double()
        gaussian: Any = process.blocks[self.numeric]
        log_density, means = self._components.explain(numeric.double(), gaussian.alpha(time), gaussian.sigma(time))
        table = self.categories.probabilities.flatten().log()
        return torch.where(self.categories.compatible(levels), table + log_density, -torch.inf), means
