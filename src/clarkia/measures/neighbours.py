"""Nearest points in Euclidean distance."""

import numpy as np

# Sums of the same squares in another order differ by rounding; distances closer than this (relative) are equal.
TIE = 1e-9


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
