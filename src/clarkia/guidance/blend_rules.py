"""Which concept a run follows next: rules from the scores of what it has so far.

A rule is any function ``choose(i, N, scores, history) -> weights``: at step i of N it sees float64 scores ``(n, K)`` in
(0, 100] of every row for every concept, and those of the steps before ``(i, n, K)``; it answers weights ``(n, K)`` over
the concepts that sum to one. A weight of one means to follow that concept alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Gaussian

Rule: TypeAlias = Callable[[int, int, Tensor, Tensor], Tensor]

STRIKE = 100.0
"""The published strike: a score that no forecast exceeds."""

SWITCH = (0.07, 0.17)
"""The share of the steps between which the published stepwise switch follows the second concept."""


def call_price(
    spot: Float[Tensor, "..."],
    strike: float | Tensor,
    rate: float | Tensor,
    volatility: float | Tensor,
    time: float | Tensor,
    *,
    published: bool = False,
) -> Float[Tensor, "..."]:
    """The price of a European call: ``S Phi(d1) - K exp(-r T) Phi(d2)``, float64.

    ``d1 = (log(S / K) + (r + s^2 / 2) T) / (s sqrt(T))`` and ``d2 = d1 - s sqrt(T)``, Phi the normal distribution
    function. The price increases strictly in the spot. Where ``s sqrt(T)`` is 0 it is ``max(S - K exp(-r T), 0)``.

    Args:
        spot: S > 0, what the right to buy is worth if used now.
        strike: K > 0, what it costs to use it.
        rate: r, of riskless interest.
        volatility: s >= 0, standard deviation of the log-spot's increments in a unit of time.
        time: T >= 0, until it must be used.
        published: Put ``exp(-d^2 / 2)`` in the place of Phi, as the released code of concept blending does. That price
            is 0 whatever the spot, since ``S phi(d1) = K exp(-r T) phi(d2)``: what it decides is decided by rounding.

    Source: The Pricing of Options and Corporate Liabilities (1973); Financial Models in Generative Art:
    Black-Scholes-Inspired Concept Blending in Text-to-Image Diffusion (2024).
    """
    spot = spot.double()
    time, volatility = (torch.as_tensor(value, dtype=torch.float64) for value in (time, volatility))
    due = strike * torch.exp(-rate * time)
    width = volatility * time.sqrt()
    moneyness = torch.log(spot / due)
    d1 = moneyness / torch.where(width > 0, width, 1.0) + width / 2
    weigh = _bell if published else _normal
    price = spot * weigh(d1) - due * weigh(d1 - width)
    return torch.where(width > 0, price, (spot - due).clamp(min=0))


@dataclass(frozen=True, eq=False)
class BlackScholes:
    """Follow the concept whose call is cheapest: the one that lags behind.

    All concepts share strike, rate, volatility and time, and the price increases in the spot: this *is* `lowest`, step
    by step, whatever the numbers here. Prices that cannot be told apart, such as two that are 0 in floating point, are
    compared by their spots.

    Args:
        volatility: Of the log-score in a step, one number or one a step ``(N,)`` such as `step_deviation`.
        strike: A score.
        published: The released code's price, see `call_price`; ties are then left to chance as they are there.

    Source: Financial Models in Generative Art: Black-Scholes-Inspired Concept Blending in Text-to-Image Diffusion
    (2024).
    """

    volatility: float | Float[Tensor, " steps"] = 0.05
    strike: float = STRIKE
    published: bool = False

    def __call__(self, i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
        """The weights of step i: one for each row's cheapest concept."""
        volatility = self.volatility[i] if isinstance(self.volatility, Tensor) else self.volatility
        price = call_price(scores, self.strike, 1 / N, volatility, N - i, published=self.published)
        return _only(price.argmin(1), scores) if self.published else _cheapest(price, scores)


def step_deviation(process: Gaussian, times: Float[Tensor, " nodes"]) -> Float[Tensor, " steps"]:
    """Standard deviation of the noise that each step of a grid would add if it were ancestral, float64 ``(N,)``.

    The published volatility: the deviation of DDIM's step between two neighbouring times.

    Args:
        process: The corruption.
        times: A decreasing grid, ``(N + 1,)``.
    """
    return process.step_weights(times[:-1].double(), times[1:].double(), eta=1.0)[2]


def own_volatility(i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
    """Follow the concept whose call is cheapest at a volatility of its own.

    The volatility is the deviation of the log-score's increments so far. A concept whose score moves much is worth more
    than one as high that stands still, so that here the decision is not that of `lowest`. It needs two increments;
    before, it is. An extension of this library, not of the paper.
    """
    spots = torch.cat([history, scores[None]]).log()
    if len(spots) < 3:
        return lowest(i, N, scores, history)
    return _cheapest(call_price(scores, STRIKE, 1 / N, spots.diff(dim=0).std(0), N - i), scores)


def lowest(i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
    """Follow the concept with the lowest score; of equals the first."""
    return _only(scores.argmin(1), scores)


def alternate(i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
    """Follow the concepts in turn."""
    return _only(torch.full_like(scores[:, 0], i % scores.shape[1], dtype=torch.int64), scores)


def switch(i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
    """Follow the first concept but for a stretch of early steps, 7 to 16 of a hundred, that follow the second."""
    second = SWITCH[0] <= i / N < SWITCH[1]
    return _only(torch.full_like(scores[:, 0], int(second), dtype=torch.int64), scores)


def equally(i: int, N: int, scores: Tensor, history: Tensor) -> Tensor:
    """Follow all concepts alike at every step."""
    return torch.full_like(scores, 1 / scores.shape[1])


RULES: dict[str, Rule] = {
    "black_scholes": BlackScholes(),
    "black_scholes_published": BlackScholes(published=True),
    "volatility": own_volatility,
    "lowest": lowest,
    "alternate": alternate,
    "switch": switch,
    "sum": equally,
    "interpolate": equally,
}
"""The rules by name; "sum" and "interpolate" differ in what is averaged, see `blend`."""

_TOLD_APART = 1e-280
"""Prices below are differences of numbers that lose their digits as they underflow."""

SCORED = ("black_scholes", "black_scholes_published", "volatility", "lowest")
"""Names of the rules that look at the scores."""


def _normal(d: Tensor) -> Tensor:
    """Phi; torch's own is ``(1 + erf) / 2``, which has no digits left far below 0."""
    return torch.special.erfc(-d / math.sqrt(2)) / 2


def _bell(d: Tensor) -> Tensor:
    return torch.exp(-(d**2) / 2)


def _cheapest(price: Tensor, scores: Tensor) -> Tensor:
    """One for each row's lowest price, and among equals for the lowest score."""
    price = price.clamp(min=_TOLD_APART)
    cheapest = price == price.min(1, keepdim=True).values
    return _only(torch.where(cheapest, scores, torch.inf).argmin(1), scores)


def _only(concept: Tensor, scores: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(concept, scores.shape[1]).to(scores.dtype)
