"""Categories seen through noisy embeddings: a law of classes as a law of vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.oracles.classes import ClassLaw
from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.spaces import Continuous


class Embedded:
    """The law of ``(E[x^1], ..., E[x^m])`` for categories x of any law: tokens as vectors under Gaussian noise.

    A state is ``(n, m, e)``. Besides the two shapes of every block a time may be ``(n, m)``, one a token. What a token
    shows of its class is the density ``N(x_t; alpha E[k], sigma^2 I)``; the law of classes does the rest.

    Args:
        law: The law of the classes, such as `MarkovChain` or `FiniteJoint`.
        vectors: ``(K_max, e)``, or ``(m, K_max, e)`` with a table a position.

    Raises:
        ValueError: Vectors of another shape.
    """

    def __init__(self, law: ClassLaw, vectors: Any) -> None:
        self.law = law
        self.vectors = torch.as_tensor(vectors, dtype=torch.float64)
        (positions,), width = law.space.shape, law.space.max_classes
        if self.vectors.shape[:-1] not in ((width,), (positions, width)) or not bool(self.vectors.isfinite().all()):
            raise ValueError(
                f"vectors: expected finite numbers of shape ({width}, e) or ({positions}, {width}, e), "
                f"found shape {tuple(self.vectors.shape)}."
            )
        self._table = self.vectors.expand(positions, width, -1)

    @property
    def log_z(self) -> Tensor:
        """Log-normaliser of the law of classes."""
        return self.law.log_z

    @property
    def space(self) -> Continuous:
        """The space the embeddings live on, of shape ``(m, e)``."""
        return Continuous((len(self._table), self._table.shape[-1]))

    def embed(self, x: Int[Tensor, "n m"]) -> Float[Tensor, "n m e"]:
        """The vectors of classes."""
        self.law.space.check(x, "x")
        return self._table[torch.arange(x.shape[1]), x]

    def sample(self, num_samples: int, *, generator: Noise = None) -> Float[Tensor, "n m e"]:
        """Draw ``(num_samples, m, e)``, float64."""
        return self.embed(self.law.sample(num_samples, generator=generator))

    def log_prob(self, x: Float[Tensor, "n m e"]) -> Float[Tensor, " n"]:
        """Log-probability of points that are embeddings, float64 ``(n,)``; minus infinity for all others."""
        self.space.check(x, "x")
        return self.law.explain(_Tokens(None, self._table).log_emission(x, torch.zeros(len(x))))[1]

    def noisy_log_prob(self, process: Gaussian, x_t: Float[Tensor, "n m e"], t: Tensor) -> Float[Tensor, " n"]:
        """Log-density of the noisy law at ``x_t``, float64 ``(n,)``; its gradient is the score.

        Tokens at t = 0 count with their probability.
        """
        return self.law.noisy_log_prob(_Tokens(process, self._table), x_t, t)

    def denoiser(self, process: Gaussian) -> Any:
        """The exact ``E[x_0 | x_t]`` of the embeddings; elements at t = 0 are observed and come back as they are."""
        classes = self.class_denoiser(process)

        def denoise(x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            mean = torch.einsum("nmk,mke->nme", classes(x_t, t).exp(), self._table).to(x_t.dtype)
            return torch.where(_spread(t, x_t) > 0, mean, x_t)

        return denoise

    def class_denoiser(self, process: Gaussian) -> Any:
        """The exact posterior of the classes behind noisy embeddings: log-probabilities ``(n, m, K_max)``."""
        return self.law.denoiser(_Tokens(process, self._table))

    def tilt(self, reward: Any) -> Embedded:
        """The law reweighed by ``exp(reward)`` of the classes; the reward's shape is that of the law of classes."""
        return Embedded(self.law.tilt(reward), self.vectors)

    def posterior(self, log_likelihood: Any) -> Embedded:
        """The law given evidence of this log-likelihood about the classes; ``log_z`` is the log-evidence."""
        return Embedded(self.law.posterior(log_likelihood), self.vectors)


@dataclass(frozen=True, eq=False)
class _Tokens:
    """Gaussian noise on embeddings as a corruption of the classes; without a process there is no noise at all."""

    process: Gaussian | None
    table: Tensor

    def log_emission(self, x_t: Tensor, t: Any) -> Tensor:
        """``log N(x_t; alpha E[k], sigma^2 I)`` over the noisy elements; observed ones must equal the class's own."""
        if x_t.ndim != 3 or x_t.shape[1] != len(self.table) or x_t.shape[2] != self.table.shape[2]:
            expected = f"(n, {len(self.table)}, {self.table.shape[2]})"
            raise ValueError(f"x_t: expected shape {expected}, found {tuple(x_t.shape)}.")
        time = _spread(t, x_t).double()
        alpha, sigma = (
            (1 + 0 * time, 0 * time) if self.process is None else (self.process.alpha(time), self.process.sigma(time))
        )
        noisy = (sigma > 0).expand(x_t.shape)
        precision = torch.where(noisy, 1 / torch.where(sigma > 0, sigma, 1.0) ** 2, 0.0)
        # Squares are taken about the middle of the table, where their differences keep the most digits.
        middle = self.table.mean(1)
        table, gap = self.table - middle.unsqueeze(1), x_t.double() - alpha * middle
        cross = torch.einsum("nme,mke->nmk", alpha * precision * gap, table)
        square = torch.einsum("nme,mke->nmk", alpha**2 * precision, table**2)
        log_scale = torch.where(noisy, math.log(2 * math.pi) - precision.clamp(min=1e-300).log(), 0.0)
        constant = 0.5 * (precision * gap**2 + log_scale).sum(-1, keepdim=True)
        log_density = cross - 0.5 * square - constant
        if bool(noisy.all()):
            return log_density
        equal = (x_t.unsqueeze(2) == self.table.to(x_t.dtype)) | noisy.unsqueeze(2)
        return log_density.masked_fill(~equal.all(-1), -torch.inf)


def _spread(t: Any, x_t: Tensor) -> Tensor:
    """A time that broadcasts against ``(n, m, e)``, from one a row, a token or an element."""
    return t.unsqueeze(-1) if isinstance(t, Tensor) and t.shape == x_t.shape[:2] else spread(t, x_t)
