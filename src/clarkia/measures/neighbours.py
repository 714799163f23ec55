"""Nearest points in Euclidean distance, and when two distances are the same."""

import numpy as np
import torch

from clarkia._math.neighbours import k_nearest

# Sums of the same squares in another order differ by rounding; distances closer than this (relative) are equal.
TIE = 1e-9


def nearest(queries: np.ndarray, points: np.ndarray, *, exclude_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance and index of the nearest point of every query.

    Args:
        queries: Shape (n, d), finite.
        points: Shape (m, d), finite.
        exclude_self: The queries are the points, and a point is not its own neighbour.

    Returns:
        Distances, exactly 0 for copies, and indices; both of shape (n,).
    """
    found = k_nearest(torch.from_numpy(queries), torch.from_numpy(points), 1, exclude_self=exclude_self)
    distances, index = (part[:, 0].numpy() for part in found)
    return distances, index
