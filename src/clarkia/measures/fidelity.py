"""Fidelity and coverage of a cloud of points: alpha-precision, beta-recall, authenticity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from clarkia.measures.intervals import Interval, recentred
from clarkia.measures.neighbours import TIE, nearest
from clarkia.measures.rows import as_columns

LEVELS = 30


@dataclass(frozen=True, eq=False)
class Fidelity:
    """How the synthetic points lie among the real ones.

    Attributes:
        alpha_precision: 1 when, for every share alpha, as many synthetic as real points lie in the ball around the
            real mean that holds the share alpha of the real points. Perfect data scores about 1.
        beta_recall: Share-by-share coverage of the real points by synthetic neighbourhoods. Perfect fresh data of
            equal size scores about one half, not 1: half of the real points have a real neighbour closer than any
            synthetic one.
        authenticity: Share of synthetic points that are farther from their nearest real point than that point is
            from its nearest other real point; a memorised point is not authentic. Fresh data scores about one half.
        inside: For every synthetic point, the index of the smallest of the 30 balls that holds it, 30 for none, (m,).
        covered: For every real point, the same of its nearest synthetic point among the balls around the synthetic
            mean, 30 where the nearest other real point is nearer, shape (n,).
        authentic: For every synthetic point, whether it is authentic, shape (m,).
        rows: Numbers of real and synthetic points.
    """

    alpha_precision: float
    beta_recall: float
    authenticity: float
    inside: Int64[np.ndarray, " m"]
    covered: Int64[np.ndarray, " n"]
    authentic: Float64[np.ndarray, " m"]
    rows: tuple[int, int]


def level_score(reached: np.ndarray) -> float:
    """Agreement of "share of points within level alpha" with alpha: 1 minus its mean gap relative to the mean alpha.

    Args:
        reached: For every point the index of its level in a grid of 30 levels from 0 to 1, 30 for none, shape (n,).
    """
    return float(_scores(np.bincount(reached, minlength=LEVELS + 1)))


def _scores(counts: np.ndarray) -> np.ndarray:
    """Level scores from the number of points first reached at every level, over leading axes."""
    levels = np.linspace(0, 1, LEVELS)
    curve = np.cumsum(counts[..., :LEVELS], -1) / counts.sum(-1, keepdims=True)
    return 1 - np.abs(levels - curve).sum(-1) / levels.sum()


def level_interval(reached: np.ndarray, rng: np.random.Generator, draws: int = 1000) -> Interval:
    """Bootstrap interval of ``level_score`` over the points."""
    shares = np.bincount(reached, minlength=LEVELS + 1) / len(reached)
    return recentred(level_score(reached), _scores(rng.multinomial(len(reached), shares, size=draws))).clip(-1, 1)


def _levels_reached(radii: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Index of the first radius that reaches every distance (len(radii) when none does)."""
    return np.searchsorted(radii * (1 + TIE), distances, "left")


def fidelity_scores(real: Any, synthetic: Any) -> Fidelity:
    """Alpha-precision, beta-recall and authenticity of synthetic points.

    Args:
        real: Points, shape (n, d), finite.
        synthetic: Points, shape (m, d), finite. Unequal sizes are allowed, but beta-recall and authenticity compare
            nearest distances, which shrink with the number of points: compare figures at equal sizes only.

    This is the protocol that table synthesis reports: 30 levels summed, and a recall that asks whether the nearest
    synthetic point is nearer than the nearest real one. `alpha_precision` is the paper's measure: the area between the
    curves, and a recall that asks for any synthetic point among the k nearest real ones.

    Source: "How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models"
    (2022), with balls around the mean in the data space, as in synthcity and TabSyn (2024).
    """
    real, synthetic = as_columns(real, np.float64), as_columns(synthetic, np.float64)
    levels = np.linspace(0, 1, LEVELS)
    centre = real.mean(0)
    radii = np.quantile(np.sqrt(((real - centre) ** 2).sum(1)), levels)
    inside = _levels_reached(radii, np.sqrt(((synthetic - centre) ** 2).sum(1)))

    between_real, _ = nearest(real, real, exclude_self=True)
    to_synthetic, closest = nearest(real, synthetic)
    near = to_synthetic <= between_real * (1 + TIE)
    from_centre = np.sqrt(((synthetic[closest] - synthetic.mean(0)) ** 2).sum(1))
    reached = _levels_reached(np.quantile(from_centre, levels), from_centre)
    to_real, owner = nearest(synthetic, real)
    authentic = to_real > between_real[owner] * (1 + TIE)

    covered = np.where(near, reached, LEVELS)
    return Fidelity(
        alpha_precision=level_score(inside),
        beta_recall=level_score(covered),
        authenticity=float(authentic.mean()),
        inside=inside,
        covered=covered,
        authentic=authentic.astype(np.float64),
        rows=(len(real), len(synthetic)),
    )
