"""Fidelity and coverage of a cloud of points: alpha-precision, beta-recall, authenticity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from clarkia.measures.rows import as_columns

LEVELS = 30
# Distances found through dot products and through differences differ by rounding; closer values are equal.
TIE = 1e-9


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
        inside: For every synthetic point, the smallest level whose ball holds it, as a number of levels, shape (m,).
        covered: For every real point, whether a synthetic one is nearer than the nearest other real one, shape (n,).
        authentic: For every synthetic point, whether it is authentic, shape (m,).
        rows: Numbers of real and synthetic points.
    """

    alpha_precision: float
    beta_recall: float
    authenticity: float
    inside: Int64[np.ndarray, " m"]
    covered: Float64[np.ndarray, " n"]
    authentic: Float64[np.ndarray, " m"]
    rows: tuple[int, int]


def nearest(queries: np.ndarray, points: np.ndarray, *, exclude_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance and index of the nearest point of every query, in chunks.

    Args:
        queries: Shape (n, d), finite.
        points: Shape (m, d), finite.
        exclude_self: The queries are the points, and a point is not its own neighbour.

    Returns:
        Distances recomputed from differences, so exact copies are at 0 exactly, and indices; both of shape (n,).
    """
    from sklearn.neighbors import NearestNeighbors

    # Trees win in few dimensions only; elsewhere chunked products, in single precision as indices are all we keep.
    tree = points.shape[1] <= 8
    points_, queries_ = (points, queries) if tree else (points.astype(np.float32), queries.astype(np.float32))
    search = NearestNeighbors(n_neighbors=2 if exclude_self else 1, algorithm="kd_tree" if tree else "brute")
    index = search.fit(points_).kneighbors(queries_, return_distance=False)
    if exclude_self:
        own = np.arange(len(queries))
        index = np.where(index[:, 0] == own, index[:, 1], index[:, 0])
    else:
        index = index[:, 0]
    return np.sqrt(((queries - points[index]) ** 2).sum(1)), index


def _curve_score(curve: np.ndarray, levels: np.ndarray) -> float:
    return float(1 - np.abs(levels - curve).sum() / levels.sum())


def _levels_reached(radii: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Index of the first radius that reaches every distance (len(radii) when none does)."""
    return np.searchsorted(radii * (1 + TIE), distances, "left")


def fidelity(real: Any, synthetic: Any) -> Fidelity:
    """Alpha-precision, beta-recall and authenticity of synthetic points.

    Args:
        real: Points, shape (n, d), finite.
        synthetic: Points, shape (m, d), finite. Unequal sizes are allowed, but beta-recall and authenticity compare
            nearest distances, which shrink with the number of points: compare figures at equal sizes only.

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

    grid = np.arange(LEVELS)
    precision = np.searchsorted(np.sort(inside), grid, "right") / len(synthetic)
    recall = np.searchsorted(np.sort(reached[near]), grid, "right") / len(real)
    return Fidelity(
        alpha_precision=_curve_score(precision, levels),
        beta_recall=_curve_score(recall, levels),
        authenticity=float(authentic.mean()),
        inside=inside,
        covered=near.astype(np.float64),
        authentic=authentic.astype(np.float64),
        rows=(len(real), len(synthetic)),
    )
