"""Precision and recall by level: how much of the generated set is typical, and how much of the real one is reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import blocks, squared_distances
from clarkia.measures.inputs import pair
from clarkia.measures.two_sample.prdc import inside, own_radius


@dataclass(frozen=True, eq=False)
class AlphaPrecision:
    """Two curves over levels, and how close they are to the diagonal.

    Attributes:
        levels: Shares alpha (beta) from 0 to 1, ``(levels,)``.
        precision: Share of generated points in the smallest ball about the real centre with a share alpha of the real
            points, ``(levels,)``; the diagonal for equal laws.
        recall: Share of real points whose ball holds a generated point of the inner share beta, ``(levels,)``.
    """

    levels: Float64[Tensor, " levels"]
    precision: Float64[Tensor, " levels"]
    recall: Float64[Tensor, " levels"]

    @property
    def integrated_precision(self) -> float:
        """``1 - 2 mean |precision - alpha|``: 1 on the diagonal, 0 for a curve that jumps at an end."""
        return _closeness(self.levels, self.precision)

    @property
    def integrated_recall(self) -> float:
        """``1 - 2 mean |recall - beta|``."""
        return _closeness(self.levels, self.recall)


@torch.no_grad()
def alpha_precision(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, k: int = 5, *, levels: int = 101, chunk: int = 2048
) -> AlphaPrecision:
    """Precision and recall of the most typical shares of two sets, for all shares at once.

    A collapsed spread gives a precision above the diagonal, outliers one below. Evaluation only.

    Args:
        x: Real features ``(n, d)``, n > k, best in a space where the real set is one ball.
        y: Generated features ``(m, d)``.
        k: Neighbours behind a real point's ball.
        levels: Number of levels, at least 2.
        chunk: Rows of a block on either side.

    Returns:
        Both curves.

    Raises:
        ValueError: Different widths, values that are not finite, k rows or fewer, fewer than 2 levels.

    Source: How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models
    (2022).
    """
    x, y = pair(x, y)
    if levels < 2:
        raise ValueError(f"levels: expected at least 2, found {levels}.")
    radius = own_radius(x, k, "x")
    from_real_x, from_real_y = ((rows - x.mean(0)).norm(dim=1) for rows in (x, y))
    # How many of the own kind of the ball lie nearer to the centre: a point is in the ball of the K innermost if below
    # K.
    nearer = torch.searchsorted(from_real_x.sort().values, from_real_y)

    from_made = (y - y.mean(0)).norm(dim=1)
    rank = torch.searchsorted(from_made.sort().values, from_made)
    largest = max(float((rows - x.mean(0)).square().sum(1).max()) for rows in (x, y))
    reached = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for first, rows in blocks(x, chunk):
        here = slice(first, first + len(rows))
        for start, points in blocks(y, chunk):
            held = inside(squared_distances(rows, points), radius[here, None], rows, points, largest)
            best = torch.where(held, rank[start : start + len(points)].double(), torch.inf).min(1).values
            reached[here] = torch.minimum(reached[here], best)

    shares = torch.linspace(0, 1, levels, dtype=torch.float64, device=x.device)
    # ceil(level n) points are needed for a share; 1e-9 keeps the rounding of whole numbers out.
    precision = (nearer[None] < (shares * len(x) - 1e-9).ceil()[:, None]).double().mean(1)
    recall = (reached[None] < (shares * len(y) - 1e-9).ceil()[:, None]).double().mean(1)
    return AlphaPrecision(shares, precision, recall)


def _closeness(levels: Tensor, curve: Tensor) -> float:
    return 1 - 2 * float(torch.trapezoid((curve - levels).abs(), levels))
