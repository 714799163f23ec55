"""What a likelihood is: nats a row, how sure they are, and whether they are the value itself or a bound on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Kind: TypeAlias = Literal["exact", "bound", "T-step bound", "estimate", "not a bound"]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Log-probabilities of rows under a model, or lower bounds on them.

    Attributes:
        nats: float64 ``(n,)``, log-probability or log-density of each row, or the bound on it.
        standard_error: float64 ``(n,)``, the Monte Carlo error of each; 0 where nothing was drawn.
        kind: ``"exact"``: the value (a density to the tolerance of its integration); ``"estimate"``: a random number
            whose mean is the value; ``"bound"``: of the model in continuous time, never above the value in expectation;
            ``"T-step bound"``: of the sampler that takes T steps; ``"not a bound"``: a published figure that is none of
            these, for comparison with its tables.

    Raises:
        ValueError: Another kind, or shapes that do not fit.
    """

    nats: Float[Tensor, " n"]
    standard_error: Float[Tensor, " n"]
    kind: Kind

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {list(get_args(Kind))}, found {self.kind!r}.")
        if self.nats.ndim != 1 or self.nats.shape != self.standard_error.shape:
            raise ValueError(
                "nats, standard_error: expected two of one shape (n,), "
                f"found {tuple(self.nats.shape)} and {tuple(self.standard_error.shape)}."
            )
        for name in ("nats", "standard_error"):
            object.__setattr__(self, name, getattr(self, name).detach().double())

    @property
    def mean(self) -> float:
        """Mean of the rows, nats."""
        return float(self.nats.mean())

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo error of that mean over these very rows; how it varies from sample to sample is not in it."""
        return float(self.standard_error.square().sum().sqrt()) / len(self.nats)

    def bits_per_dimension(self, dimensions: int) -> Float[Tensor, " n"]:
        """Negative log-likelihood in bits, shared among the dimensions of a data point, ``(n,)``."""
        if dimensions < 1:
            raise ValueError(f"dimensions: expected at least 1, found {dimensions}.")
        return -self.nats / (dimensions * math.log(2))

    def perplexity(self, num_tokens: int | Tensor) -> float:
        """Exponential of the nats a token.

        Args:
            num_tokens: Real tokens (no padding) in all rows together, or the number in each row ``(n,)``.
        """
        total = float(torch.as_tensor(num_tokens).sum())
        if not total > 0:
            raise ValueError(f"num_tokens: expected a positive number, found {total:g}.")
        return math.exp(-float(self.nats.sum()) / total)


def certain(nats: Tensor, kind: Kind) -> Likelihood:
    """A likelihood in which nothing was drawn."""
    return Likelihood(nats, torch.zeros_like(nats, dtype=torch.float64), kind)
