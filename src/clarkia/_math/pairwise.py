"""Sums over all pairs of rows, block by block: no ``n x m`` matrix is ever held.

All arithmetic is float64. A ``PairFunction`` takes two blocks of rows, ``(a, d)`` and ``(b, d)``, and returns one
number a pair, ``(a, b)``.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PairFunction = Callable[[Tensor, Tensor], Tensor]

# Up to this width distances come from differences, exact to the last digits; beyond it from products, many times
# faster.
NARROW = 32
POINTS = 8192  # points beside one chunk of queries in the search for neighbours


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances of the rows of ``x`` ``(n, d)`` to those of ``y`` ``(m, d)``, shape ``(n, m)``.

    Wide rows go through ``|x|^2 + |y|^2 - 2 x.y`` about the mean of ``y``: right to about 1e-15 of the squared norms,
    so that the distance of two equal rows may come out as 1e-8 of their norm.
    """
    x, y = x.double(), y.double()
    if x.shape[1] <= NARROW:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.addmm(norms, x, y.T, alpha=-2).clamp_min(0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances, ``(n, m)``, with gradient zero (not infinite) between rows that coincide."""
    if x.shape[1] <= NARROW:
        return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return safe_power(squared_distances(x, y), 0.5)


def safe_power(squared: Tensor, power: float) -> Tensor:
    """``squared ** power`` for a positive power, with derivative 0 at 0 where the true one is infinite."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0) ** power, 0.0)


def paired_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distance of row i of ``x`` to row i of ``y``, both ``(..., d)``, from differences."""
    return (x.double() - y.double()).square().sum(-1)


def pair_mean(
    function: PairFunction,
    x: Tensor,
    y: Tensor,
    *,
    chunk: int = 2048,
    symmetric: bool = False,
    exclude_self: bool = False,
) -> Tensor:
    """Mean of ``function`` over all pairs of rows, differentiable in the rows without keeping the blocks.

    Args:
        function: One number a pair of rows of two blocks.
        x: ``(n, d)``.
        y: ``(m, d)``.
        chunk: Rows of a block on either side.
        symmetric: ``x`` and ``y`` are the same rows and ``function`` is symmetric: half the blocks are enough.
        exclude_self: ``x`` and ``y`` are the same rows, and the pairs of a row with itself are left out.

    Returns:
        A float64 number.
    """
    total = x.new_zeros((), dtype=torch.float64)
    for first, rows in blocks(x, chunk):
        for start, points in blocks(y, chunk):
            if symmetric and start < first:
                continue
            own = exclude_self and start == first
            part = checkpointed(_block_sum, function, rows, points, own, whole=len(x) <= chunk and len(y) <= chunk)
            total = total + (2 * part if symmetric and start > first else part)
    # One row has no pair with another: the mean of nothing is 0.
    return total / (len(x) * max(len(y) - int(exclude_self), 1))


def row_means(function: PairFunction, x: Tensor, y: Tensor, *, chunk: int = 2048) -> Tensor:
    """Mean of ``function`` over the rows of ``y`` for every row of ``x``: ``(n,)``, differentiable; see `pair_mean`."""
    whole = len(x) <= chunk and len(y) <= chunk
    means = []
    for _, rows in blocks(x, chunk):
        sums = [checkpointed(_row_sums, function, rows, points, whole=whole) for _, points in blocks(y, chunk)]
        means.append(torch.stack(sums).sum(0) / len(y))
    return torch.cat(means)


def row_log_means(log_function: PairFunction, x: Tensor, y: Tensor, *, chunk: int = 2048) -> Tensor:
    """``log mean_j exp(log_function(x_i, y_j))`` for every row of ``x``, ``(n,)``, in log-sum-exp."""
    whole = len(x) <= chunk and len(y) <= chunk
    logs = []
    for _, rows in blocks(x, chunk):
        parts = [checkpointed(_row_log_sums, log_function, rows, points, whole=whole) for _, points in blocks(y, chunk)]
        logs.append(torch.stack(parts).logsumexp(0))
    return torch.cat(logs) - torch.tensor(float(len(y)), dtype=torch.float64, device=x.device).log()


def k_nearest(
    queries: Tensor, points: Tensor, k: int, *, exclude_self: bool = False, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest points of every query in Euclidean distance.

    Distances are computed again from differences once the neighbours are known, so that equal rows are at distance 0.

    Args:
        queries: ``(n, d)``.
        points: ``(m, d)``.
        k: Number of neighbours, at most ``m`` (``m - 1`` with ``exclude_self``).
        exclude_self: Queries and points are the same rows, and a row is not its own neighbour (equal rows are).
        chunk: Queries searched at once.

    Returns:
        Distances, float64 ``(n, k)``, ascending, and indices of the points, int64 ``(n, k)``.

    Raises:
        ValueError: Fewer points than neighbours.
    """
    if not 1 <= k <= len(points) - int(exclude_self):
        raise ValueError(f"k: expected 1 to {len(points) - int(exclude_self)} neighbours, found {k}.")
    values, indices = [], []
    with torch.no_grad():
        for first, rows in blocks(queries.double(), chunk):
            near = _nearest_of_chunk(rows, points, k, first if exclude_self else None)
            exact = torch.stack([paired_squared_distances(rows, points[near[:, j]]) for j in range(k)], 1)
            ordered, order = exact.sort(dim=1, stable=True)
            values.append(ordered.sqrt())
            indices.append(near.gather(1, order))
    return torch.cat(values), torch.cat(indices)


def median_distance(x: Tensor, *, generator: torch.Generator | None = None, max_rows: int = 2000) -> float:
    """Median Euclidean distance of two different rows of ``x`` ``(n, d)``: a length that follows the data's scale.

    Args:
        x: Rows.
        generator: Chooses the rows where there are more than ``max_rows``; None chooses the same ones every time.
        max_rows: Rows that the median runs over at most.

    Returns:
        The median; where that is 0 because most rows coincide, the mean; 1 where no two rows differ.
    """
    with torch.no_grad():
        rows = x.detach()
        if len(rows) > max_rows:
            source = torch.Generator().manual_seed(0) if generator is None else generator
            chosen = torch.randperm(len(rows), generator=source, device=source.device)[:max_rows]
            rows = rows[chosen.to(rows.device)]
        # A wide Gram matrix would leave rounding where rows coincide; the median must be 0 there.
        pairs = torch.nn.functional.pdist(rows.double()) if rows.shape[1] <= NARROW else _upper_distances(rows)
        if len(pairs) == 0:
            return 1.0
        ordered = pairs.sort().values
        median = float((ordered[(len(pairs) - 1) // 2] + ordered[len(pairs) // 2]) / 2)
        return median or float(pairs.mean()) or 1.0


def blocks(rows: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    """The rows in blocks of ``chunk``, each with the index of its first row."""
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, found {chunk}.")
    for start in range(0, len(rows), chunk):
        yield start, rows[start : start + chunk]


def _upper_distances(rows: Tensor) -> Tensor:
    squared = squared_distances(rows, rows)
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    pairs = squared[first, second]
    floor = 1e-13 * float((rows.double() - rows.double().mean(0)).square().sum(1).max())
    return torch.where(pairs > floor, pairs, 0.0).sqrt()


def _nearest_of_chunk(rows: Tensor, points: Tensor, k: int, own: int | None) -> Tensor:
    """Indices ``(a, k)`` of the nearest points; ``own`` is the index of the first row among the points."""
    best = rows.new_full((len(rows), 0), 0.0)
    found = torch.zeros((len(rows), 0), dtype=torch.int64, device=rows.device)
    for start, block in blocks(points, POINTS):
        squared = squared_distances(rows, block)
        if own is not None:
            itself = torch.arange(own, own + len(rows), device=rows.device) - start
            inside = ((itself >= 0) & (itself < len(block))).nonzero().squeeze(1)
            squared[inside, itself[inside]] = torch.inf
        value, position = squared.topk(min(k, len(block)), dim=1, largest=False)
        best, found = torch.cat([best, value], 1), torch.cat([found, position + start], 1)
        if best.shape[1] > k:
            best, order = best.topk(k, dim=1, largest=False)
            found = found.gather(1, order)
    return found


def _block_sum(function: PairFunction, rows: Tensor, points: Tensor, own: bool) -> Tensor:
    values = function(rows, points).double()
    return values.sum() - values.diagonal().sum() if own else values.sum()


def _row_sums(function: PairFunction, rows: Tensor, points: Tensor) -> Tensor:
    return function(rows, points).double().sum(1)


def _row_log_sums(function: PairFunction, rows: Tensor, points: Tensor) -> Tensor:
    return function(rows, points).double().logsumexp(1)


def checkpointed(reduce: Callable[..., Tensor], *arguments, whole: bool) -> Tensor:
    """The reduction of one block; its pairs are computed again in the backward pass unless it is the only block."""
    wanted = any(isinstance(part, Tensor) and part.requires_grad for part in arguments)
    if whole or not wanted or not torch.is_grad_enabled():
        return reduce(*arguments)
    return checkpoint(reduce, *arguments, use_reentrant=False)  # type: ignore[return-value]
