"""Where characteristic functions are compared: at Gaussian frequencies, or where two sets differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clarkia.random import Noise, rand, randn


@dataclass(frozen=True)
class GaussianFrequencies:
    """Frequencies ``t ~ N(0, scale^2 I)``: with power 2 a Gaussian kernel of bandwidth ``1 / scale``.

    Attributes:
        scale: In units of one over the features; None takes one over the median distance of the pooled rows.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale: expected a positive finite number, found {self.scale}.")


@dataclass(frozen=True)
class LearnedFrequencies:
    """Frequencies from a small network that climbs the distance itself.

    The network is fitted on a random half of both sets and the value is read on the other half; on the rows it was
    fitted to the value would be too large.

    Attributes:
        steps: Steps of gradient ascent.
        learning_rate: Of Adam.
        bound: Largest absolute component of a frequency, in units of one over the features' typical deviation (their
            median distance over ``sqrt(2 d)``). Without a bound the largest distances are at frequencies so high that
            only noise is left.
    """

    steps: int = 200
    learning_rate: float = 3e-2
    bound: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.learning_rate > 0 or not 0 < self.bound < math.inf:
            raise ValueError(
                "LearnedFrequencies: expected steps >= 0, learning_rate > 0 and a positive finite bound, found "
                f"steps={self.steps}, learning_rate={self.learning_rate}, bound={self.bound}."
            )


Weights = tuple[tuple[Tensor, Tensor, Tensor], ...]


def new_network(d: int, noise: Noise, like: Tensor) -> Weights:
    """Three layers: weights ``(d, d)`` uniform in ``+-1/sqrt(d)``, then the normalised columns' gains and shifts.

    The last gains start at ``1/sqrt(d)``: frequencies of length about 1, where characteristic functions are not yet
    lost in noise and the ascent has something to climb.
    """

    def layer(gain: float) -> tuple[Tensor, Tensor, Tensor]:
        weight = ((2 * rand((d, d), noise) - 1) / d**0.5).to(like)
        return weight.requires_grad_(), like.new_full((d,), gain).requires_grad_(), like.new_zeros(d).requires_grad_()

    return tuple(layer(gain) for gain in (1.0, 1.0, d**-0.5))


def network_frequencies(weights: Weights, count: int, bound: float, noise: Noise) -> Tensor:
    """Frequencies ``(count, d)`` within ``+-bound``: white noise through three layers, each batch-normalised."""
    first = weights[0][0]
    hidden = randn((count, len(first)), noise, dtype=torch.float64).to(first)
    for index, (weight, gain, shift) in enumerate(weights):
        hidden = hidden @ weight.T
        # 1e-5 bounds the gain where a column does not vary
        hidden = gain * (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt() + shift
        if index < 2:
            hidden = torch.nn.functional.leaky_relu(hidden, 0.2)
    return bound * (hidden / bound).tanh()
