"""Sums over all pairs of rows, block by block: no ``n x m`` matrix is ever held, and no float64 copy of all rows.

All arithmetic is float64: rows of another type are converted when their block's turn comes. A ``PairFunction`` takes
two float64 blocks of rows, ``(a, d)`` and ``(b, d)``, and returns one number a pair, ``(a, b)``.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PairFunction = Callable[[Tensor, Tensor], Tensor]

# Up to this width distances come from differences, exact to the last digits; beyond it from products, many times
# faster.
NARROW = 32
CHUNK = 1024  # rows of a block on either side: larger ones are no faster and take four times the memory
NUMBERS = 2**21  # in a block whose number of rows is nobody's choice: 16 MiB in float64


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
    gram = torch.addmm(_squared_norms(y), x, y.T, alpha=-2)
    return gram.add_(_squared_norms(x)[:, None]).clamp_min_(0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances, ``(n, m)``, with gradient zero (not infinite) between rows that coincide."""
    if x.shape[1] <= NARROW:
        return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return safe_power(squared_distances(x, y), 0.5)


def safe_power(squared: Tensor, power: float) -> Tensor:
    """``squared ** power`` for a positive power, with derivative 0 at 0 where the true one is infinite."""
    if not squared.requires_grad:
        return squared.sqrt() if power == 0.5 else squared**power
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
    chunk: int = CHUNK,
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
    left = list(blocks(x, chunk))
    right = left if symmetric else list(blocks(y, chunk))
    for index, (first, rows) in enumerate(left):
        for start, points in right[index if symmetric else 0 :]:
            own = exclude_self and start == first
            part = checkpointed(_block_sum, function, rows, points, own, whole=len(x) <= chunk and len(y) <= chunk)
            total = total + (2 * part if symmetric and start > first else part)
    # One row has no pair with another: the mean of nothing is 0.
    return total / (len(x) * max(len(y) - int(exclude_self), 1))


def row_means(function: PairFunction, x: Tensor, y: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Mean of ``function`` over the rows of ``y`` for every row of ``x``: ``(n,)``, differentiable; see `pair_mean`."""
    whole = len(x) <= chunk and len(y) <= chunk
    means = []
    for _, rows in blocks(x, chunk):
        sums = [checkpointed(_row_sums, function, rows, points, whole=whole) for _, points in blocks(y, chunk)]
        means.append(torch.stack(sums).sum(0) / len(y))
    return torch.cat(means)


def row_log_means(log_function: PairFunction, x: Tensor, y: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """``log mean_j exp(log_function(x_i, y_j))`` for every row of ``x``, ``(n,)``, in log-sum-exp."""
    whole = len(x) <= chunk and len(y) <= chunk
    logs = []
    for _, rows in blocks(x, chunk):
        parts = [checkpointed(_row_log_sums, log_function, rows, points, whole=whole) for _, points in blocks(y, chunk)]
        logs.append(torch.stack(parts).logsumexp(0))
    return torch.cat(logs) - torch.tensor(float(len(y)), dtype=torch.float64, device=x.device).log()


def median_distance(*sets: Tensor, generator: torch.Generator | None = None, max_rows: int = 2000) -> float:
    """Median Euclidean distance of two different rows of ``(n, d)`` pooled sets: a length that follows their scale.

    Args:
        sets: Rows.
        generator: Chooses the rows where there are more than ``max_rows``; None chooses the same ones every time.
        max_rows: Rows that the median runs over at most.

    Returns:
        The median; where that is 0 because most rows coincide, the mean; 1 where no two rows differ.
    """
    with torch.no_grad():
        count = sum(len(rows) for rows in sets)
        if count > max_rows:
            source = torch.Generator().manual_seed(0) if generator is None else generator
            chosen = torch.randperm(count, generator=source, device=source.device)[:max_rows]
            rows = _pooled_rows(sets, chosen.to(sets[0].device))
        else:
            rows = torch.cat([rows.double() for rows in sets])
        # A wide Gram matrix would leave rounding where rows coincide; the median must be 0 there.
        pairs = torch.nn.functional.pdist(rows) if rows.shape[1] <= NARROW else _upper_distances(rows)
        if len(pairs) == 0:
            return 1.0
        ordered = pairs.sort().values
        median = float((ordered[(len(pairs) - 1) // 2] + ordered[len(pairs) // 2]) / 2)
        return median or float(pairs.mean()) or 1.0


def blocks(rows: Tensor, chunk: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """The rows in blocks of ``chunk`` (by default of about 16 MiB in float64), each with the index of its first row.

    The blocks are views: whoever takes one converts it.
    """
    size = max(1, NUMBERS // max(1, rows.shape[1:].numel())) if chunk is None else chunk
    if size < 1:
        raise ValueError(f"chunk: expected at least 1 row, found {chunk}.")
    first = 0
    for block in rows.split(size):  # one step of a graph, where a slice a block would be one of the size of all rows
        yield first, block
        first += len(block)


def mean_row(*sets: Tensor) -> Tensor:
    """Mean ``(d,)`` of the pooled rows of sets ``(., d)``."""
    total = sum(block.double().sum(0) for rows in sets for _, block in blocks(rows))
    return total / sum(len(rows) for rows in sets)  # type: ignore[operator]


def reach(rows: Tensor, centre: Tensor) -> float:
    """Largest squared distance of a row from ``centre`` ``(d,)``."""
    return max(float(_squared_norms(block.detach().double() - centre).max()) for _, block in blocks(rows))


def _squared_norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1).square() if not rows.requires_grad else rows.square().sum(1)


def _pooled_rows(sets: tuple[Tensor, ...], chosen: Tensor) -> Tensor:
    """Rows of the concatenated sets by their numbers, in float64, without concatenating them."""
    found = torch.empty((len(chosen), sets[0].shape[1]), dtype=torch.float64, device=chosen.device)
    first = 0
    for rows in sets:
        here = (chosen >= first) & (chosen < first + len(rows))
        found[here] = rows[chosen[here] - first].double()
        first += len(rows)
    return found


def _upper_distances(rows: Tensor) -> Tensor:
    squared = squared_distances(rows, rows)
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    pairs = squared[first, second]
    floor = 1e-13 * reach(rows, rows.mean(0))
    return torch.where(pairs > floor, pairs, 0.0).sqrt()


def _block_sum(function: PairFunction, rows: Tensor, points: Tensor, own: bool) -> Tensor:
    values = function(rows.double(), points.double()).double()
    return values.sum() - values.diagonal().sum() if own else values.sum()


def _row_sums(function: PairFunction, rows: Tensor, points: Tensor) -> Tensor:
    return function(rows.double(), points.double()).double().sum(1)


def _row_log_sums(function: PairFunction, rows: Tensor, points: Tensor) -> Tensor:
    return function(rows.double(), points.double()).double().logsumexp(1)


def checkpointed(reduce: Callable[..., Tensor], *arguments, whole: bool) -> Tensor:
    """The reduction of one block; its pairs are computed again in the backward pass unless it is the only block."""
    wanted = any(isinstance(part, Tensor) and part.requires_grad for part in arguments)
    if whole or not wanted or not torch.is_grad_enabled():
        return reduce(*arguments)
    return checkpoint(reduce, *arguments, use_reentrant=False)  # type: ignore[return-value]
