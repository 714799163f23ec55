"""Exact optimal transport between two sets of points."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import distances, paired_squared_distances, safe_power
from clarkia.measures.inputs import pair

LARGEST = 3000  # rows of an assignment; its time grows with their cube


def exact_wasserstein(x: Tensor | np.ndarray, y: Tensor | np.ndarray, p: float = 2.0) -> Float64[Tensor, ""]:
    """Exact ``W_p`` with the cost ``|x - y|^p``: the cheapest matching of two sets of points.

    An assignment problem for equal sizes, and for sizes whose least common multiple is at most 3000; else a linear
    programme, which needs POT. Lower is better; 0 exactly for equal sets, and for two samples of one law of order
    ``n^{-1/d}``: in many dimensions a floor tells more than the value. Differentiable at the plan found.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        p: Exponent of the cost, at least 1.

    Returns:
        The distance, in units of the features, a float64 number.

    Raises:
        ValueError: Different widths, values that are not finite, p below 1, more than 3000 rows.
        ImportError: A linear programme without POT.

    Source: Computational Optimal Transport (2019).
    """
    x, y = pair(x, y)
    if not 1 <= p < torch.inf:
        raise ValueError(f"p: expected a finite number >= 1, found {p}.")
    if max(len(x), len(y)) > LARGEST:
        raise ValueError(
            f"x: expected at most {LARGEST} rows for exact transport, found {max(len(x), len(y))}; "
            "use sliced_wasserstein or sinkhorn_divergence."
        )
    with torch.no_grad():
        cost = (distances(x, y) ** p).cpu().numpy()
        rows, columns, weights = _plan(cost)
    gap = paired_squared_distances(x[rows], y[columns])
    return safe_power((torch.from_numpy(weights).to(x.device) * safe_power(gap, p / 2)).sum(), 1 / p)


def _plan(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and weights of the pairs of an optimal plan between equal weights."""
    from scipy.optimize import linear_sum_assignment

    n, m = cost.shape
    copies = math.lcm(n, m)
    if copies <= LARGEST:  # every point as often as makes the sets equally large
        rows, columns = linear_sum_assignment(np.repeat(np.repeat(cost, copies // n, 0), copies // m, 1))
        return rows // (copies // n), columns // (copies // m), np.full(copies, 1 / copies)
    try:
        import ot  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            f"Exact transport between {n} and {m} points is a linear programme and needs POT: pip install POT; "
            "or take as many points of one set as of the other."
        ) from None
    plan = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), cost, numItermax=10_000_000)
    rows, columns = plan.nonzero()
    return rows, columns, plan[rows, columns]
