"""Categories with a Gaussian for each combination of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.oracles.classes import parse_table
from clarkia.oracles.components import Average, Components
from clarkia.oracles.joint import FiniteJoint
from clarkia.processes import Mixed, block_time, spread
from clarkia.random import Noise
from clarkia.spaces import Continuous
from clarkia.spaces import Mixed as MixedSpace


class MixedJoint:
    """A finite joint law of categories and, given each combination, a Gaussian; exact denoiser, tilts and posteriors.

    A noisy state whose categories have probability zero together is answered by the numbers alone, and each category
    by its marginal given these numbers and what it shows itself.

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

    @property
    def covariances(self) -> Tensor:
        """Covariance of each combination, ``(K_1, ..., K_m, d, d)``."""
        return self._components.covariances.unflatten(0, self.categories.probabilities.shape)

    def sample(self, num_samples: int, *, generator: Noise = None) -> dict[str, Tensor]:
        """Draw a state of ``num_samples`` rows, float64 and int64."""
        cells = self.categories.sample_cells(num_samples, generator=generator)
        numeric = self._components.sample(cells, generator)
        return {self.numeric: numeric, self.categorical: self.categories.states[cells]}

    def log_prob(self, x: Mapping[str, Tensor]) -> Float[Tensor, " n"]:
        """Log-density (of the numbers, with probability of the categories), float64 ``(n,)``."""
        self.space.check(x, "x")
        one = torch.ones(1, 1, dtype=torch.float64)
        log_density = self._components.explain(x[self.numeric].double(), one, 0 * one)[0]
        cells = self.categories.cell(x[self.categorical])
        return self.categories.log_prob(x[self.categorical]) + log_density.gather(1, cells[:, None]).squeeze(1)

    def noisy_log_prob(self, process: Mixed, x_t: Mapping[str, Tensor], t: Any) -> Float[Tensor, " n"]:
        """Log-density of the noisy numbers and categories (see `ClassLaw.noisy_log_prob`), float64 ``(n,)``."""
        log_density, _, evidence = self._explain(process, x_t, t)
        return torch.logsumexp(log_density + self.categories.log_weights(evidence), 1)

    def denoiser(self, process: Mixed) -> Any:
        """The exact posterior of both blocks; elements at t = 0 are observed and come back as they are."""

        def denoise(x_t: Mapping[str, Tensor], t: Any, condition: Any = None) -> dict[str, Tensor]:
            numeric = x_t[self.numeric]
            log_density, average, evidence = self._explain(process, x_t, t)
            log_weights = log_density + self.categories.log_weights(evidence)
            by_numbers = log_density + self.categories.probabilities.flatten().log()
            possible = log_weights.amax(1, keepdim=True) > -torch.inf
            shares = torch.where(possible, log_weights, by_numbers).softmax(1)
            log_probs = self.categories.log_probs(log_weights, evidence, shares)
            observed = spread(block_time(t, self.numeric), numeric) == 0
            return {
                self.numeric: torch.where(observed, numeric, average(shares).to(numeric.dtype)),
                self.categorical: log_probs.to(numeric.dtype),
            }

        return denoise

    def tilt(self, reward: Any = None, slope: Any = None, quadratic: Any = None) -> MixedJoint:
        """The law reweighed by ``exp(reward[c] + slope . x - x' quadratic x / 2)``; ``log_z`` is the factor's log-mean.

        Args:
            reward: Of the categories c, a table ``(K_1, ..., K_m)``; minus infinity excludes a combination.
            slope: Of the numbers x, ``(d,)``; or ``(K_1, ..., K_m, d)`` with one a combination.
            quadratic: As `GaussianMixture.tilt`'s, the same for all combinations.
        """
        table = tuple(self.categories.probabilities.shape)
        gain = torch.zeros(table, dtype=torch.float64) if reward is None else parse_table(reward, table, "reward")
        components = self._components
        if slope is not None or quadratic is not None:
            d = components.means.shape[1]
            slope = torch.zeros(d) if slope is None else torch.as_tensor(slope)
            slope = slope.flatten(0, -2) if slope.shape == (*table, d) else slope
            components, log_mean = components.tilt(slope, quadratic)
            gain = gain + log_mean.reshape(table)
        return self._with(self.categories.tilt(gain), components)

    def posterior(self, operator: Any, y: Any, noise_std: Any, *, log_likelihood: Any = None) -> MixedJoint:
        """The law given a measurement ``y = operator x + noise_std eps`` of the numbers; ``log_z`` is its evidence.

        Args:
            operator: ``(c, d)`` or ``(d,)``.
            y: ``(c,)`` or a number.
            noise_std: One number or ``(c,)``; 0 for a certain measurement.
            log_likelihood: Of independent evidence about the categories, a table ``(K_1, ..., K_m)``; None for none.
        """
        table = tuple(self.categories.probabilities.shape)
        components, evidence = self._components.observe(operator, y, noise_std)
        evidence = evidence.reshape(table)
        if log_likelihood is not None:
            evidence = evidence + parse_table(log_likelihood, table, "log_likelihood")
        return self._with(self.categories.tilt(evidence), components)

    def _with(self, categories: FiniteJoint, components: Components) -> MixedJoint:
        table = categories.probabilities.shape
        means, covariances = (part.unflatten(0, table) for part in (components.means, components.covariances))
        names = {"numeric": self.numeric, "categorical": self.categorical}
        return MixedJoint(categories.probabilities, means, covariances, **names, log_z=categories.log_z)

    def _explain(self, process: Mixed, x_t: Mapping[str, Tensor], t: Any) -> tuple[Tensor, Average, Tensor]:
        """Log-density of the numbers under each combination, their average, and the evidence on the categories."""
        numeric = x_t[self.numeric]
        time = spread(block_time(t, self.numeric), numeric).double()
        gaussian, discrete = (process.blocks[name] for name in (self.numeric, self.categorical))
        scales = gaussian.alpha(time), gaussian.sigma(time)  # type: ignore[union-attr]
        log_density, average = self._components.explain(numeric.double(), *scales)
        clock = block_time(t, self.categorical)
        evidence = self.categories.log_emissions(discrete, x_t[self.categorical], clock)  # type: ignore[arg-type]
        return log_density, average, evidence
