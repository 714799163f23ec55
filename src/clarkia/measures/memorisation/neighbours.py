"""The nearest training rows of generated and held-out rows, found once for all measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.neighbours import k_nearest

NEAREST = 50
"""Neighbours whose mean distance calibrates that of the first."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distances of m queries to distinct training rows.

    Attributes:
        distances: To the nearest k training rows, ascending, float64 ``(m, k)``.
        isolation: Distance of the nearest training row to its own nearest other training row, ``(m,)``.
    """

    distances: Float64[np.ndarray, "m k"]
    isolation: Float64[np.ndarray, " m"]

    @property
    def nearest(self) -> Float64[np.ndarray, " m"]:
        """Distance to the closest training record."""
        return self.distances[:, 0]

    @property
    def ratio(self) -> Float64[np.ndarray, " m"]:
        """First over second distance: small only for a row that one training row, and no other, is near to."""
        return self.distances[:, 0] / self.distances[:, 1]

    @property
    def calibrated(self) -> Float64[np.ndarray, " m"]:
        """First distance over the mean of the nearest k: comparable between dense and sparse places."""
        return self.distances[:, 0] / self.distances.mean(1)

    @property
    def authentic(self) -> Float64[np.ndarray, " m"]:
        """1 where the nearest training row is nearer to another training row than to the query, ``(m,)``."""
        return (self.nearest > self.isolation).astype(np.float64)


def find_neighbours(train: Tensor, *queries: Tensor) -> list[Neighbours]:
    """Neighbours of each set of queries ``(m, d)`` among the distinct rows of ``train`` ``(n, d)``, at least two.

    A row that training repeats would otherwise be its own second neighbour, and its copies pass for original.
    """
    rows = train.unique(dim=0)
    isolation = k_nearest(rows, rows, 1, exclude_self=True)[0][:, 0]
    found = []
    for points in queries:
        distances, index = k_nearest(points, rows, min(NEAREST, len(rows)))
        found.append(Neighbours(distances.numpy(force=True), isolation[index[:, 0]].numpy(force=True)))
    return found


def nearest_distance(queries: Tensor, points: Tensor) -> Float64[np.ndarray, " m"]:
    """Distance of each query to its nearest point."""
    with torch.no_grad():
        return k_nearest(queries, points, 1)[0][:, 0].numpy(force=True)
