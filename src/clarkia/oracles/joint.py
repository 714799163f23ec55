"""The finite joint law of several categories, as a table."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.oracles.classes import ClassLaw, check_possible, explain_apart, parse_table
from clarkia.oracles.components import check_probabilities
from clarkia.oracles.roots import draw_index
from clarkia.random import Noise
from clarkia.spaces import Categorical

EXCLUDED = -1e300
"""Stands for minus infinity inside a matrix product, where that times 0 would be NaN; no log-likelihood is so low."""


@final
class FiniteJoint(ClassLaw):
    """Any joint law of a few categories, with its exact denoiser and tilts under every corruption of categories.

    Args:
        probabilities: ``(K_1, ..., K_m)``, summing to one.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Probabilities that are negative or do not sum to one.
    """

    def __init__(self, probabilities: Any, *, log_z: Tensor | float = 0.0) -> None:
        self.probabilities = check_probabilities(probabilities, "probabilities")
        if self.probabilities.ndim == 0:
            raise ValueError("probabilities: expected one axis a category, found a single number.")
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)
        counts = self.probabilities.shape
        self._flat = self.probabilities.flatten()
        grids = torch.meshgrid(*(torch.arange(count) for count in counts), indexing="ij")
        self.states: Int[Tensor, "cells m"] = torch.stack([grid.flatten() for grid in grids], 1)
        self._one_hot = (self.states.unsqueeze(-1) == torch.arange(max(counts))).double().flatten(1)

    @property
    def space(self) -> Categorical:
        """The space the law lives on."""
        counts = tuple(self.probabilities.shape)
        return Categorical((len(counts),), num_classes=counts)

    def sample(self, num_samples: int, *, generator: Noise = None) -> Int[Tensor, "n m"]:
        """Draw ``(num_samples, m)`` classes."""
        return self.states[self.sample_cells(num_samples, generator=generator)]

    def sample_cells(self, num_samples: int, *, generator: Noise = None) -> Int[Tensor, " n"]:
        """Draw flat indices of table cells; `states` lists their classes."""
        return draw_index(self._flat.log(), num_samples, generator)

    def cell(self, x: Int[Tensor, "n m"]) -> Int[Tensor, " n"]:
        """Flat table index of each row of clean classes."""
        return (x * torch.tensor(self.probabilities.stride())).sum(1)

    def log_prob(self, x: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability, float64 ``(n,)``; raises ``ValueError`` for classes out of range."""
        self.space.check(x, "x")
        return self._flat.log()[self.cell(x)]

    def explain(self, log_emissions: Float[Tensor, "n m k"]) -> tuple[Float[Tensor, "n m k"], Float[Tensor, " n"]]:
        """Posterior of every position and the log-probability of the evidence; see `ClassLaw.explain`.

        A row of probability zero is answered position by position: its own marginal times its own evidence.
        """
        log_weights = self.log_weights(log_emissions)
        return self.log_probs(log_weights, log_emissions, self._flat), torch.logsumexp(log_weights, 1)

    def log_weights(self, log_emissions: Float[Tensor, "n m k"]) -> Float[Tensor, "n cells"]:
        """Log of each table cell's probability times its likelihood; minus infinity where excluded."""
        likelihood = log_emissions.clamp(min=EXCLUDED).flatten(1) @ self._one_hot.mT
        return self._flat.log() + likelihood.masked_fill(likelihood < 0.5 * EXCLUDED, -torch.inf)

    def log_probs(
        self, log_weights: Float[Tensor, "n cells"], log_emissions: Float[Tensor, "n m k"], prior: Tensor
    ) -> Float[Tensor, "n m k"]:
        """Log-probabilities of every position from the log-weights of table cells.

        Args:
            log_weights: ``(n, cells)``.
            log_emissions: The evidence they hold, for rows where all are minus infinity.
            prior: Cell probabilities without that evidence, ``(cells,)`` or ``(n, cells)``, for these rows.
        """
        top = log_weights.amax(1, keepdim=True)
        possible = top > -torch.inf
        weights = torch.where(possible, (log_weights - torch.where(possible, top, 0.0)).exp(), prior)
        log_p0 = (weights @ self._one_hot).unflatten(1, log_emissions.shape[1:]).log()
        # Normalised position by position, so that one possible class has probability 1 to the last bit.
        answer = log_p0 - log_p0.logsumexp(-1, keepdim=True)
        if bool(possible.all()):
            return answer
        return torch.where(possible.unsqueeze(-1), answer, explain_apart(answer, log_emissions))

    def tilt(self, reward: Any) -> FiniteJoint:
        """The law reweighed by ``exp(reward)``, a table of the same shape; ``log_z`` is the factor's log-mean.

        A reward of minus infinity excludes a cell: with a log-likelihood as reward this is the posterior.
        """
        log_table = self.probabilities.log() + parse_table(reward, tuple(self.probabilities.shape), "reward")
        log_z = torch.logsumexp(log_table.flatten(), 0)
        check_possible(log_z, "reward")
        return FiniteJoint((log_table - log_z).exp(), log_z=log_z)
