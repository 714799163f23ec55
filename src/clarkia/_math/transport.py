"""Optimal transport between two sets of points: exact on a line, entropic in general."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clarkia._math.pairwise import CHUNK, PairFunction, blocks, checkpointed

SoftMin = Callable[[Tensor, float], Tensor]


def wasserstein_1d(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """Exact ``W_p`` of two samples on a line, column by column.

    Args:
        x: ``(n,)`` or ``(n, columns)``.
        y: ``(m,)`` or ``(m, columns)``.
        p: Exponent of the cost, at least 1.

    Returns:
        A float64 number, or one a column.
    """
    return transport_cost_1d(x, y, p) ** (1 / p)


def transport_cost_1d(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """``W_p^p`` of two samples on a line: the integral of ``|F^-1(u) - G^-1(u)|^p``; arguments as `wasserstein_1d`."""
    x, y = (rows.double().movedim(0, -1).contiguous().sort(-1).values for rows in (x, y))  # in order where memory is
    n, m = x.shape[-1], y.shape[-1]
    if n == m:
        return _power((x - y).abs(), p).mean(-1)
    # Quantile functions jump at multiples of 1/n and 1/m; as multiples of 1/(n m) the levels are exact integers.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique().to(x.device)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    weights = (ends - starts).double() / (n * m)
    return _power((x[..., starts // m] - y[..., starts // n]).abs(), p) @ weights


class Potentials(NamedTuple):
    """Dual solution of entropic optimal transport.

    Attributes:
        f: Potential of the rows, ``(n,)``.
        g: Potential of the columns, ``(m,)``.
        cost: ``min <P, C> + eps KL(P | a b')``, a number; its gradient in the cost matrix is the plan.
        converged: Whether the marginal error fell below the tolerance.
    """

    f: Tensor
    g: Tensor
    cost: Tensor
    converged: bool


def sinkhorn(
    cost: Tensor,
    eps: float,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    annealing: float = 0.5,
    symmetric: bool = False,
) -> Potentials:
    """Entropic optimal transport in the log domain.

    Args:
        cost: Cost matrix ``(n, m)``.
        eps: Weight of the entropy, in units of the cost.
        a: Weights of the rows, ``(n,)`` with sum 1; equal ones by default.
        b: Weights of the columns, ``(m,)`` with sum 1.
        tolerance: Largest sum of absolute errors of the row marginal.
        max_iterations: Iterations at ``eps`` at most.
        annealing: Factor from one eps to the next on the way down from the largest cost; 1 starts at ``eps``.
        symmetric: The cost is symmetric and ``a`` is ``b``: both potentials are one, found in a few averaged steps.

    Returns:
        Potentials without gradient and the cost with its gradient in ``cost``: by the envelope theorem the potentials
        at the optimum are constants.
    """
    log_a, log_b = (_log_weights(w, size, cost) for w, size in zip((a, b), cost.shape, strict=True))
    fixed = cost.detach().double()

    def soft_rows(g: Tensor, eps: float) -> Tensor:
        return -eps * torch.logsumexp((g - fixed) / eps + log_b, 1)

    def soft_columns(f: Tensor, eps: float) -> Tensor:
        return -eps * torch.logsumexp((f[:, None] - fixed) / eps + log_a[:, None], 0)

    schedule = _annealed(float(fixed.abs().max()), eps, annealing)
    columns = None if symmetric else soft_columns
    f, g, converged = _solve(soft_rows, columns, log_a, log_b, schedule, tolerance, max_iterations)
    mass = ((f[:, None] + g - cost.double()) / eps + log_a[:, None] + log_b).exp().sum()
    return Potentials(f, g, _dual(f, g, log_a.exp(), log_b.exp(), mass, eps), converged)


def sinkhorn_points(
    cost: PairFunction,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    largest: float,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    annealing: float = 0.5,
    symmetric: bool = False,
    chunk: int = CHUNK,
) -> Potentials:
    """`sinkhorn` between equally weighted points, the cost computed block by block and never kept.

    Args:
        cost: Cost of the pairs of two blocks of points, not negative.
        x: ``(n, d)``.
        y: ``(m, d)``.
        eps: Weight of the entropy, in units of the cost.
        largest: An upper bound of the cost, where the annealing starts.
        tolerance: Largest sum of absolute errors of the row marginal.
        max_iterations: Iterations at ``eps`` at most.
        annealing: Factor from one eps to the next.
        symmetric: ``x`` and ``y`` are the same points.
        chunk: Points of a block on either side.

    Returns:
        Potentials without gradient, and the cost with its gradient in the points.
    """
    log_a, log_b = (_log_weights(None, len(points), x) for points in (x, y))
    fixed_x, fixed_y = x.detach(), y.detach()

    def soft(rows: Tensor, points: Tensor, potential: Tensor, log_weights: Tensor, eps: float) -> Tensor:
        level, parts = potential / eps + log_weights, []
        for _, block in blocks(rows, chunk):
            here = block.double()
            sums = [
                torch.logsumexp(level[start : start + chunk] - cost(here, other.double()) / eps, 1)
                for start, other in blocks(points, chunk)
            ]
            parts.append(-eps * torch.stack(sums).logsumexp(0))
        return torch.cat(parts)

    def soft_rows(g: Tensor, eps: float) -> Tensor:
        return soft(fixed_x, fixed_y, g, log_b, eps)

    def soft_columns(f: Tensor, eps: float) -> Tensor:
        return soft(fixed_y, fixed_x, f, log_a, eps)

    schedule = _annealed(largest, eps, annealing)
    columns = None if symmetric else soft_columns
    f, g, converged = _solve(soft_rows, columns, log_a, log_b, schedule, tolerance, max_iterations)

    whole = len(x) <= chunk and len(y) <= chunk
    mass = x.new_zeros((), dtype=torch.float64)
    for first, rows in blocks(x, chunk):
        for start, points in blocks(y, chunk):
            potentials = f[first : first + chunk], g[start : start + chunk]
            mass = mass + checkpointed(_block_mass, cost, rows, points, *potentials, eps, whole=whole)
    mass = mass / (len(x) * len(y))
    return Potentials(f, g, _dual(f, g, log_a.exp(), log_b.exp(), mass, eps), converged)


def _block_mass(cost: PairFunction, rows: Tensor, points: Tensor, f: Tensor, g: Tensor, eps: float) -> Tensor:
    return ((f[:, None] + g - cost(rows.double(), points.double())) / eps).exp().sum()


def _power(gap: Tensor, p: float) -> Tensor:
    return gap.square() if p == 2 else gap if p == 1 else gap**p


def _log_weights(weights: Tensor | None, size: int, like: Tensor) -> Tensor:
    if weights is None:
        weights = torch.full((size,), 1 / size, dtype=torch.float64, device=like.device)
    return weights.detach().double().log()


def _annealed(largest: float, eps: float, factor: float) -> list[float]:
    """From the scale of the cost down to ``eps``, which comes last."""
    levels, level = [], largest
    while level > eps and factor < 1:
        levels.append(level)
        level *= factor
    return [*levels, eps]


@torch.no_grad()
def _solve(
    soft_rows: SoftMin,
    soft_columns: SoftMin | None,
    log_a: Tensor,
    log_b: Tensor,
    schedule: list[float],
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor, bool]:
    """One iteration at every level of the annealing, then at the last until the marginals are right.

    After the columns' update their marginal is exact, and the row marginal is ``a exp((f - f') / eps)`` with the next
    rows' potential ``f'``: the error costs nothing. Without ``soft_columns`` the problem is symmetric, ``g = f``, and
    the mean of f and ``f'`` follows f; the alternation would swing about it.
    """
    eps = schedule[-1]
    if soft_columns is None:
        f = torch.zeros_like(log_a)
        for level in schedule[:-1]:
            f = (f + soft_rows(f, level)) / 2
        for _ in range(max_iterations):
            following = soft_rows(f, eps)
            if _error(f, following, log_a, eps) < tolerance:
                return f, f, True
            f = (f + following) / 2
        return f, f, False
    f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
    for level in schedule[:-1]:
        f = soft_rows(g, level)
        g = soft_columns(f, level)
    f = soft_rows(g, eps)
    for _ in range(max_iterations):
        g = soft_columns(f, eps)
        following = soft_rows(g, eps)
        if _error(f, following, log_a, eps) < tolerance:
            return f, g, True
        f = following
    return f, g, False


def _error(f: Tensor, following: Tensor, log_a: Tensor, eps: float) -> float:
    return float((log_a.exp() * ((f - following) / eps).expm1().abs()).sum())


def _dual(f: Tensor, g: Tensor, a: Tensor, b: Tensor, mass: Tensor, eps: float) -> Tensor:
    """``sum a f + sum b g + eps (1 - mass)``: never above the minimum, and equal to it at the optimal potentials."""
    return (a * f).sum() + (b * g).sum() + eps * (1 - mass)
