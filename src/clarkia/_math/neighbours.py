"""Nearest rows by chunked pairwise distances: no full distance matrix is ever held."""

import torch
from torch import Tensor

QUERY_CHUNK = 128
POINT_CHUNK = 2048


def _block(numeric: Tensor, one_hot: Tensor, other_numeric: Tensor, other_one_hot: Tensor, weight: float) -> Tensor:
    """Distances of one chunk of queries to one chunk of points, float64, shape (queries, points)."""
    shared = (one_hot @ other_one_hot.T).double()
    distance = (one_hot.sum(1, keepdim=True).double() - shared).mul_(weight)
    for column in range(numeric.shape[1]):
        distance += (numeric[:, column, None] - other_numeric[None, :, column]).abs_()
    return distance


def nearest_gower(
    numeric: Tensor,
    one_hot: Tensor,
    other_numeric: Tensor,
    other_one_hot: Tensor,
    *,
    mismatch: float = 2.0,
    exclude_self: bool = False,
) -> tuple[Tensor, Tensor]:
    """Nearest point of every query under sum of absolute numeric differences plus ``mismatch`` per differing category.

    Args:
        numeric: Scaled numeric columns of the queries, float64, shape (n, d), finite.
        one_hot: One-hot categories of the queries, float32, shape (n, K), one 1 a column and row.
        other_numeric: The same for the points, shape (m, d).
        other_one_hot: The same for the points, shape (m, K).
        mismatch: Cost of one differing category (2 is the L1 distance of two one-hot vectors).
        exclude_self: Queries and points are the same rows, and a row is not its own neighbour.

    Returns:
        Distances, float64, and indices, int64, both of shape (n,); distances are infinite when no point is left.
    """
    n, m = len(numeric), len(other_numeric)
    distances = torch.full((n,), torch.inf, dtype=torch.float64)
    indices = torch.zeros(n, dtype=torch.int64)
    for start in range(0, n, QUERY_CHUNK):
        rows = slice(start, min(start + QUERY_CHUNK, n))
        for first in range(0, m, POINT_CHUNK):
            points = slice(first, min(first + POINT_CHUNK, m))
            block = _block(numeric[rows], one_hot[rows], other_numeric[points], other_one_hot[points], mismatch)
            if exclude_self:
                own = torch.arange(rows.start, rows.stop) - first
                inside = (own >= 0) & (own < block.shape[1])
                block[inside.nonzero().squeeze(1), own[inside]] = torch.inf
            value, position = block.min(1)
            closer = value < distances[rows]
            distances[rows] = torch.where(closer, value, distances[rows])
            indices[rows] = torch.where(closer, position + first, indices[rows])
    return distances, indices
