"""Probabilistic precision and recall: balls with soft edges and one radius for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarkia._math.pairwise import CHUNK, distances, row_means
from clarkia.measures.inputs import lazy_pair
from clarkia.measures.two_sample.prdc import own_radius


@dataclass(frozen=True)
class SoftPrecisionRecall:
    """Mean probability that a generated point lies on the real support, and the reverse.

    Attributes:
        precision: Of generated points.
        recall: Of real points.
    """

    precision: float
    recall: float


@torch.no_grad()
def soft_precision_recall(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, k: int = 4, *, scale: float = 1.2, chunk: int = CHUNK
) -> SoftPrecisionRecall:
    """Precision and recall where a ball's edge is soft: one outlier's wide ball no longer decides.

    A point at distance r of another is on its support with probability ``1 - r / R`` up to the radius R, ``scale``
    times the mean distance to the k-th neighbour in the own set; on the whole support with ``1 - prod (1 - .)`` of
    these. Higher is better; no fixed value at equality. Evaluation only.

    Args:
        x: Real features ``(n, d)``, n > k.
        y: Generated features ``(m, d)``, m > k.
        k: Neighbours behind the radius.
        scale: Factor of the radius.
        chunk: Rows of a block on either side.

    Returns:
        Both probabilities.

    Raises:
        ValueError: Different widths, values that are not finite, k rows or fewer, a scale that is not positive.

    Source: Probabilistic Precision and Recall Towards Reliable Evaluation of Generative Models (2023).
    """
    x, y = lazy_pair(x, y)
    if not 0 < scale < torch.inf:
        raise ValueError(f"scale: expected a positive finite number, found {scale}.")
    radius_x, radius_y = (scale * float(own_radius(rows, k, name).mean()) for rows, name in ((x, "x"), (y, "y")))
    return SoftPrecisionRecall(_on_support(y, x, radius_x, chunk), _on_support(x, y, radius_y, chunk))


def _on_support(points: Tensor, support: Tensor, radius: float, chunk: int) -> float:
    def log_outside(a: Tensor, b: Tensor) -> Tensor:
        gap = distances(a, b)
        # Where all rows coincide the radius is 0: a point is on the support if it is one of them.
        return (gap / radius if radius > 0 else (gap > 0).double()).clamp_max(1).log()

    outside = (row_means(log_outside, points, support, chunk=chunk) * len(support)).exp()
    return float((1 - outside).mean())
