"""What all laws of categories share: any corruption reaches them as one table of log-emissions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.processes import Masked
from clarkia.random import Noise
from clarkia.spaces import Categorical


class Channel(Protocol):
    """A corruption of categories, position by position: every discrete process, or noisy embeddings."""

    def log_emission(self, x_t: Tensor, t: Any) -> Tensor:
        """``log q(x_t | x_0 = k)`` of each position, up to a number without k; float64 ``(n, m, K_max)``."""
        ...


class ClassLaw(ABC):
    """A law of m categories that knows its posterior under independent evidence at every position.

    Masked cells, uniform noise and noisy embeddings differ only in that evidence, so one rule answers them all.
    """

    log_z: Tensor

    @property
    @abstractmethod
    def space(self) -> Categorical:
        """The space the law lives on, of shape ``(m,)``."""

    @abstractmethod
    def sample(self, num_samples: int, *, generator: Noise = None) -> Int[Tensor, "n m"]:
        """Draw ``(num_samples, m)`` classes."""

    @abstractmethod
    def log_prob(self, x: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability, float64 ``(n,)``."""

    @abstractmethod
    def explain(self, log_emissions: Float[Tensor, "n m k"]) -> tuple[Float[Tensor, "n m k"], Float[Tensor, " n"]]:
        """Posterior of every position given evidence at all of them, and the log-probability of that evidence.

        Args:
            log_emissions: Log-likelihood of each class at each position, float64 ``(n, m, K_max)``; minus infinity
                where excluded, but not for all classes of a position.

        Returns:
            Normalised log-probabilities ``(n, m, K_max)`` and ``(n,)``. A row of probability zero (positions that are
            revealed at once may land there) has log-probability minus infinity and still a posterior without NaN.
        """

    @abstractmethod
    def tilt(self, reward: Any) -> Any:
        """The law reweighed by ``exp(reward)``; ``log_z`` is the factor's log-mean."""

    def posterior(self, log_likelihood: Any) -> Any:
        """The law given evidence of this log-likelihood, shaped as a reward; ``log_z`` is the log-evidence."""
        return self.tilt(log_likelihood)

    def noisy_log_prob(self, process: Channel, x_t: Tensor, t: Tensor | None = None) -> Float[Tensor, " n"]:
        """Log-probability of a noisy state, float64 ``(n,)``.

        It is complete for uniform noise, mixture paths and embeddings. Masked corruption emits 1 at masked cells, so
        there it is the log-probability of the visible cells, whatever the time.
        """
        return self.explain(self.log_emissions(process, x_t, t))[1]

    def denoiser(self, process: Channel) -> Any:
        """The exact posterior of every position: normalised log-probabilities ``(n, m, K_max)``, float64."""

        def denoise(x_t: Tensor, t: Any = None, condition: Any = None) -> Tensor:
            evidence = self.log_emissions(process, x_t, t)
            # A position that no class explains (an observed embedding that is none) says nothing.
            return self.explain(torch.where((evidence > -torch.inf).any(-1, keepdim=True), evidence, 0.0))[0]

        return denoise

    def log_emissions(self, process: Channel, x_t: Tensor, t: Tensor | None) -> Float[Tensor, "n m k"]:
        """The evidence of a noisy state; the time may be left out for masked corruption, where it tells nothing.

        Raises:
            ValueError: No time for another process, or evidence whose shape is not that of this law.
        """
        if t is None and not isinstance(process, Masked):
            raise ValueError(f"t: expected the time of a {type(process).__name__} process, found None.")
        evidence = process.log_emission(x_t, t).double()
        expected = (len(x_t), *self.space.shape, self.space.max_classes)
        if evidence.shape != expected:
            raise ValueError(f"x_t: expected evidence of shape {expected}, found {tuple(evidence.shape)}.")
        return evidence


def explain_apart(log_marginals: Tensor, log_emissions: Tensor) -> Tensor:
    """The posterior of positions that are taken to be independent, for rows of probability zero.

    Where even a position's own marginal excludes what it shows, the evidence has the last word.

    Args:
        log_marginals: ``(m, K_max)``, or ``(n, m, K_max)``.
        log_emissions: ``(n, m, K_max)``.

    Returns:
        Normalised log-probabilities ``(n, m, K_max)``.
    """
    both = log_marginals + log_emissions
    possible = (both > -torch.inf).any(-1, keepdim=True)
    return torch.where(possible, both, log_emissions).log_softmax(-1)


def parse_table(values: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """A float64 table of the given shape without NaN or plus infinity; raises ``ValueError`` otherwise."""
    table = torch.as_tensor(values, dtype=torch.float64)
    if table.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, found {tuple(table.shape)}.")
    if not bool((table < torch.inf).all()):
        raise ValueError(f"{name}: expected numbers below infinity, found a NaN or infinity.")
    return table


def check_possible(log_z: Tensor, name: str) -> None:
    """Raise ``ValueError`` where a reward leaves nothing possible."""
    if not bool(log_z.isfinite()):
        raise ValueError(f"{name}: expected a finite factor on some possible cell, found none.")
