"""What categorical draws lose to coarse random numbers: the law of a race whose clock only ticks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

# The race of weights that add up to 1 is over by then but for exp(-25).
_HORIZON = 25.0
# Ticks that are followed one by one; classes with more are summed as integrals with an end correction.
_MOST_TICKS = 4_000_000


@dataclass(frozen=True)
class CategoricalBias:
    """How a class drawn with coarse noise is distributed, beside how it should be.

    Attributes:
        reveal_rate: Probability that any class is drawn over what it should be.
        entropy: Entropy of the class that is drawn, in nats.
        entropy_loss: By how much that falls short of the entropy of ``p``, in nats.
        total_variation: Distance of the law of the class that is drawn from ``p``.
        probabilities: That law, float64 ``(K,)``.
    """

    reveal_rate: float
    entropy: float
    entropy_loss: float
    total_variation: float
    probabilities: Float[np.ndarray, " K"]


def categorical_bias(
    p: Float[Tensor, " K"] | Float[np.ndarray, " K"], reveal_prob: float, bits: int
) -> CategoricalBias:
    """The bias of one Gumbel-max draw among K classes and the mask, with uniform numbers of a few random bits.

    The draw is a race: outcome k arrives at ``-log(u_k) / w_k``, with ``w = reveal_prob * p`` for the classes and ``1 -
    reveal_prob`` for staying masked. With ``u`` a multiple of ``d = 2^-bits`` an outcome can only arrive at the ticks
    ``j d / w_k``, each time with probability ``d``; classes of small weight have their first tick late, and lose. The
    more steps a sampler takes, the smaller the weights.

    Args:
        p: Probabilities of the classes, ``(K,)``, summing to one.
        reveal_prob: Probability of leaving the mask in one step, in (0, 1]; at 1 the mask is not in the race.
        bits: Random bits of a uniform number: 8 in bfloat16, 11 in float16, 24 in float32, 53 in float64.

    Returns:
        The law of the class that is drawn, given that one is; see `CategoricalBias`.

    Raises:
        ValueError: Probabilities that are negative or do not sum to one, a ``reveal_prob`` outside (0, 1], or bits
            outside [1, 64].

    Source: Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical
    Sampling (2024).
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or (p < 0).any() or not abs(p.sum() - 1) < 1e-6:
        raise ValueError(f"p: expected non-negative probabilities (K,) with sum 1, found sum {p.sum():g}.")
    if not 0 < reveal_prob <= 1:
        raise ValueError(f"reveal_prob: expected a number in (0, 1], found {reveal_prob}.")
    if not 1 <= bits <= 64:
        raise ValueError(f"bits: expected a number from 1 to 64, found {bits}.")
    wins = _race(np.append(p * reveal_prob, 1 - reveal_prob), 2.0**-bits)[:-1]
    law = wins / wins.sum()
    entropy = _entropy(law)
    return CategoricalBias(
        reveal_rate=float(wins.sum() / reveal_prob),
        entropy=entropy,
        entropy_loss=_entropy(p) - entropy,
        total_variation=float(np.abs(law - p).sum() / 2),
        probabilities=law,
    )


def _race(weights: np.ndarray, d: float) -> np.ndarray:
    """Each outcome's probability to arrive first, ``sum_j d S(j d / w_k)`` with the survival ``S`` of all outcomes.

    ``S(tau) = exp(-d sum_l floor(tau w_l / d))``: ticks of the lightest outcomes are followed one by one, the others
    pass as ``tau w_l - d / 2``, the mean of the floor between their many ticks.
    """
    ranked = np.argsort(weights)
    ticks = np.floor(_HORIZON * weights[ranked] / d)
    light = ranked[ticks.cumsum() <= _MOST_TICKS]
    heavy = np.setdiff1d(ranked, light)
    wins = np.zeros_like(weights)

    count = np.floor(_HORIZON * weights[light] / d).astype(np.int64)
    owner = light.repeat(count)
    number = np.arange(count.sum()) - (count.cumsum() - count).repeat(count) + 1.0
    time = number * d / weights[owner]
    order = np.argsort(time, kind="stable")
    time, owner = time[order], owner[order]
    total, lag = weights[heavy].sum(), d / 2 * len(heavy)
    before = d * np.arange(len(time)) + np.maximum(total * time - lag, 0.0)
    np.add.at(wins, owner, d * np.exp(-before))

    # Between two ticks S is an exponential of rate `total`; its integral, then sum_j f(j) = int f - f(0)/2 - f'(0)/12.
    if len(heavy):
        starts, ends = np.append(0.0, time), np.append(time, np.inf)
        passed, still = np.exp(-d * np.arange(len(starts))), lag / total
        flat = np.minimum(ends, still) - np.minimum(starts, still)
        fall = np.exp(-total * np.maximum(starts - still, 0)) - np.exp(-total * np.maximum(ends - still, 0))
        integral = (passed * (flat + fall / total)).sum()
        wins[heavy] = weights[heavy] * integral - d / 2 + d**2 * total / (12 * weights[heavy])
    return wins


def _entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())
