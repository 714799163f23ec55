"""Tokens as vectors under Gaussian noise, every token at a time of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.processes.gaussian import Gaussian
from clarkia.processes.times import check_time, spread
from clarkia.random import Noise, randn


class Embedding(Protocol):
    """A table of vectors, fixed or trained."""

    def table(self) -> Float[Tensor, "k e"]:
        """One vector a class."""
        ...


@dataclass(frozen=True, eq=False)
class FixedEmbedding:
    """An embedding that is not trained.

    Args:
        vectors: ``(K, e)``.
    """

    vectors: Float[Tensor, "k e"]

    def table(self) -> Float[Tensor, "k e"]:
        """One vector a class."""
        return self.vectors


@dataclass(frozen=True, eq=False)
class TokenEmbeddingGaussian:
    """``z = alpha(t) e(x) + sigma(t) noise_scale eps`` with a time a token.

    One time for all tokens of a row is ordinary diffusion of embeddings; times 0 and 1 alone, with one-hot embeddings
    and ``alpha(1) = 0``, is masked diffusion. Times are ``(n,)``, ``(n, L)`` with one a token, or the latent's shape.

    Args:
        process: The Gaussian process of each token.
        embedding: The vectors of the classes.
        noise_scale: Factor of the noise's standard deviation; above 1 in training, it keeps high levels hard for
            embeddings that are far apart.

    Source: Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes (2025).
    """

    process: Gaussian
    embedding: Embedding
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.noise_scale > 0:
            raise ValueError(f"noise_scale: expected a positive number, found {self.noise_scale}.")

    def embed(self, x: Int[Tensor, "n l"]) -> Float[Tensor, "n l e"]:
        """The vectors of tokens."""
        return torch.nn.functional.embedding(x, self.embedding.table())

    def corrupt(self, x: Int[Tensor, "n l"], t: Tensor, *, generator: Noise = None) -> Float[Tensor, "n l e"]:
        """Draw ``z`` given tokens; those at t = 0 are their vectors.

        Raises:
            ValueError: A time outside [0, 1] or of a wrong shape.
        """
        clean = self.embed(x)
        alpha, sigma = self.coefficients(t, clean)
        noise = randn(clean.shape, generator, dtype=clean.dtype, device=clean.device)
        return alpha * clean + sigma * self.noise_scale * noise

    def coefficients(self, t: Tensor, z: Float[Tensor, "n l e"]) -> tuple[Tensor, Tensor]:
        """Alpha and sigma (without the noise scale), broadcastable against ``z`` and in its precision."""
        check_time(t)
        time = element_time(t, z)
        return self.process.alpha(time).to(z.dtype), self.process.sigma(time).to(z.dtype)

    def log_emission(self, z: Float[Tensor, "n l e"], t: Tensor) -> Float[Tensor, "n l k"]:
        """``log q(z | x = k)`` of every token up to a number without k, float64: what an oracle needs.

        At t = 0 minus infinity for all classes but those with just this vector; 0 for all where alpha is 0.
        """
        z, table = z.double(), self.embedding.table().detach().double()
        alpha, sigma = self.coefficients(t, z)
        gap = z.unsqueeze(-2) - alpha.unsqueeze(-2) * table
        width = (sigma * self.noise_scale).unsqueeze(-2)
        live = width > 0
        square = torch.where(live, gap / torch.where(live, width, 1.0), 0.0).square().sum(-1)
        known = (~live & (gap != 0)).any(-1)
        # alpha = 0 makes all classes alike; the common term is taken away so that they are exactly 0.
        log_density = -0.5 * (square - square.amin(-1, keepdim=True))
        return log_density.masked_fill(known, -torch.inf)


def element_time(t: Tensor, z: Float[Tensor, "n l e"]) -> Tensor:
    """A time that broadcasts against ``(n, L, e)``, from one a row, a token or an element."""
    return t.unsqueeze(-1) if t.shape == z.shape[:2] else spread(t, z)
