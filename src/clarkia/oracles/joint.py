"""The finite joint law of several categories, as a table."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.oracles.components import check_probabilities
from clarkia.processes import Masked
from clarkia.random import Noise, categorical
from clarkia.spaces import Categorical


class FiniteJoint:
    """Any joint law of a few categories, with its exact denoiser and tilts.

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
        self._one_hot = _one_hot(self.states, max(counts))

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
        return categorical(self._flat.log().expand(num_samples, -1), generator)

    def cell(self, x: Int[Tensor, "n m"]) -> Int[Tensor, " n"]:
        """Flat table index of each row of clean classes."""
        strides = torch.tensor(self.probabilities.stride(), device=x.device)
        return (x * strides).sum(1)

    def log_prob(self, x: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability, float64 ``(n,)``."""
        self.space.check(x, "x")
        return self._flat.log()[self.cell(x)]

    def compatible(self, x_t: Int[Tensor, "n m"]) -> Tensor:
        """Which table cells agree with the visible cells of each row, bool ``(n, cells)``."""
        visible = x_t < torch.tensor(self.probabilities.shape)
        seen = _one_hot(x_t, max(self.probabilities.shape))
        return (seen @ self._one_hot.T).round() == visible.sum(1, keepdim=True)

    def noisy_log_prob(self, x_t: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability of the visible cells of each row, float64 ``(n,)``."""
        return (self.compatible(x_t).double() @ self._flat).log()

    def denoiser(self, process: Masked) -> Any:
        """The exact posterior of every cell given the visible ones.

        A row whose visible cells have probability zero together (cells revealed at once may land there) is answered
        by the marginals.
        """

        def denoise(x_t: Tensor, t: Any = None, condition: Any = None) -> Tensor:
            weights = self.compatible(x_t) * self._flat
            return self.predict(process, x_t, weights)

        return denoise

    def predict(self, process: Masked, x_t: Tensor, weights: Tensor) -> Tensor:
        """Log-probabilities ``(n, m, K_max)``, float64, from the weights ``(n, cells)`` of table cells."""
        total = weights.sum(1, keepdim=True)
        weights = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), self._flat)
        log_p0 = (weights @ self._one_hot).log().reshape(*x_t.shape, -1)
        seen = _one_hot(x_t, log_p0.shape[-1]).reshape(log_p0.shape) > 0
        return process.log_probs(log_p0.masked_fill(seen, 0.0), x_t)

    def tilt(self, reward: Any) -> FiniteJoint:
        """The law reweighed by ``exp(reward)``, a table of the same shape; ``log_z`` is the factor's log-mean.

        A reward of minus infinity excludes a cell: with a log-likelihood as reward this is the posterior.
        """
        reward = torch.as_tensor(reward, dtype=torch.float64)
        if reward.shape != self.probabilities.shape:
            raise ValueError(f"reward: expected shape {tuple(self.probabilities.shape)}, found {tuple(reward.shape)}.")
        log_table = self.probabilities.log() + reward
        log_z = torch.logsumexp(log_table.flatten(), 0)
        if not bool(log_z.isfinite()):
            raise ValueError("reward: expected a finite factor on some possible cell, found none.")
        return FiniteJoint((log_table - log_z).exp(), log_z=log_z)

    def posterior(self, log_likelihood: Any) -> FiniteJoint:
        """The law given evidence of this log-likelihood, a table of the same shape; ``log_z`` is the log-evidence."""
        return self.tilt(log_likelihood)


def _one_hot(x: Tensor, num_classes: int) -> Tensor:
    """One-hot of each position, flattened, float64 ``(n, m * num_classes)``; a mask is all zeros where K fits."""
    return (x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)).double().flatten(1)
