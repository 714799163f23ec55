"""Nearest rows, exactly and without a matrix of all distances: Euclidean, and of numbers beside categories."""

import torch
from torch import Tensor

from .pairwise import blocks, mean_row, paired_squared_distances, squared_distances

QUERY_CHUNK = 128
POINT_CHUNK = 2048

SEARCH_QUERIES = 1024  # queries and points in one block of the search on an accelerator
SEARCH_POINTS = 8192
TREE_WIDTH = 6  # up to here a tree finds one neighbour faster than a look at every point


def k_nearest(queries: Tensor, points: Tensor, k: int, *, exclude_self: bool = False) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest points of every query in Euclidean distance.

    Distances are computed again from differences once the neighbours are known, so that equal rows are at distance 0.

    Args:
        queries: ``(n, d)``.
        points: ``(m, d)``.
        k: Number of neighbours, at most ``m`` (``m - 1`` with ``exclude_self``).
        exclude_self: Queries and points are the same rows, and a row is not its own neighbour (equal rows are).

    Returns:
        Distances, float64 ``(n, k)``, ascending, and indices of the points, int64 ``(n, k)``.

    Raises:
        ValueError: Fewer points than neighbours.
    """
    if not 1 <= k <= len(points) - int(exclude_self):
        raise ValueError(f"k: expected 1 to {len(points) - int(exclude_self)} neighbours, found {k}.")
    with torch.no_grad():
        queries, points = queries.detach(), points.detach()
        wanted = k + int(exclude_self)
        search = _search_on_cpu if queries.device.type == "cpu" else _search_in_blocks
        centre = mean_row(points)  # float64; distances from products lose what the rows have in common
        found = search(queries - centre, points - centre, wanted)
        if exclude_self:
            found = _without_self(found)
        exact = torch.stack([paired_squared_distances(queries, points[column]) for column in found.T], 1)
        ordered, order = exact.sort(dim=1, stable=True)
        return ordered.sqrt(), found.gather(1, order)


def _search_on_cpu(queries: Tensor, points: Tensor, k: int) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    tree = points.shape[1] <= TREE_WIDTH and k <= 2
    search = NearestNeighbors(n_neighbors=k, algorithm="kd_tree" if tree else "brute")
    return torch.from_numpy(search.fit(points.numpy()).kneighbors(queries.numpy(), return_distance=False))


def _search_in_blocks(queries: Tensor, points: Tensor, k: int) -> Tensor:
    every = []
    for _, rows in blocks(queries, SEARCH_QUERIES):
        best = rows.new_zeros((len(rows), 0))
        found = torch.zeros((len(rows), 0), dtype=torch.int64, device=rows.device)
        for start, block in blocks(points, SEARCH_POINTS):
            value, position = squared_distances(rows, block).topk(min(k, len(block)), dim=1, largest=False)
            best, found = torch.cat([best, value], 1), torch.cat([found, position + start], 1)
            if best.shape[1] > k:
                best, order = best.topk(k, dim=1, largest=False)
                found = found.gather(1, order)
        every.append(found)
    return torch.cat(every)


def _without_self(found: Tensor) -> Tensor:
    """The neighbours but the row itself; where equal rows have crowded it out, but the last."""
    own = found == torch.arange(len(found), device=found.device)[:, None]
    own[:, -1] |= ~own.any(1)
    return found[~own].view(len(found), -1)


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
