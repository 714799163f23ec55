"""Wasserstein distances on a line and of projections onto lines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math import transport
from clarkia._math.pairwise import blocks, checkpointed
from clarkia.measures.inputs import lazy_pair
from clarkia.random import Noise, randn

LINES = 64  # columns, or projections, that are sorted at once

Projection = Callable[[Tensor, Tensor], Tensor]


def wasserstein_1d(x: Tensor | np.ndarray, y: Tensor | np.ndarray, p: float = 2.0) -> Float64[Tensor, " d"]:
    """Exact ``W_p`` of every column of two samples, ``(integral |F^-1(u) - G^-1(u)|^p du)^{1/p}``.

    Args:
        x: ``(n, d)``.
        y: ``(m, d)``; n and m may differ.
        p: Exponent of the cost ``|x - y|^p``, at least 1.

    Returns:
        One distance a column, ``(d,)``, in the column's unit.

    Raises:
        ValueError: Different widths, values that are not finite, p below 1.

    Source: Computational Optimal Transport (2019).
    """
    x, y = lazy_pair(x, y)
    _check_power(p)
    parts = zip(x.split(LINES, 1), y.split(LINES, 1), strict=True)
    return _root(torch.cat([transport.transport_cost_1d(a, b, p) for a, b in parts]), p)


def sliced_wasserstein(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    p: float = 2.0,
    *,
    n_projections: int = 1000,
    orthogonal: bool = True,
    projection: Projection | None = None,
    generator: Noise = None,
) -> Float64[Tensor, ""]:
    """Sliced Wasserstein distance, ``(mean over directions of W_p^p)^{1/p}``.

    Lower is better; 0 for equal laws, and for two samples of one law about as far from 0 as on a line, whatever d.
    A shift by v is at ``|v| / sqrt(d)`` for p = 2. Differentiable in the rows.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        p: Exponent of the cost ``|x - y|^p`` on the line, at least 1.
        n_projections: Number of random unit directions.
        orthogonal: Draw the directions in orthogonal blocks of d, which lowers the variance.
        projection: ``(rows, directions (L, d)) -> (n, L)`` other than the inner product, row by row: a generalised
            slice.
        generator: Source of the directions.

    Returns:
        A float64 number, in units of the features.

    Raises:
        ValueError: Different widths, values that are not finite, p below 1, or no projection.

    Source: Sliced and Radon Wasserstein Barycenters of Measures (2015); Generalized Sliced Wasserstein Distances
    (2019).
    """
    x, y = lazy_pair(x, y)
    _check_power(p)
    directions = random_directions(n_projections, x.shape[1], orthogonal=orthogonal, generator=generator).to(x.device)
    costs = _costs(x, y, directions, p, projection or _inner)
    return _root(costs.mean(), p)


def max_sliced_wasserstein(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    p: float = 2.0,
    *,
    n_projections: int = 100,
    steps: int = 100,
    learning_rate: float = 0.05,
    projection: Projection | None = None,
    generator: Noise = None,
) -> tuple[Float64[Tensor, ""], Float64[Tensor, " d"]]:
    """Largest ``W_p`` of projections onto a line, and its direction: where two sets differ most.

    The best of some random directions climbs by gradient ascent on the sphere. A local maximum: a lower bound. For two
    samples of one law it grows with d / n; compare with a floor. Differentiable in the rows at the direction found.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        p: Exponent of the cost on the line, at least 1.
        n_projections: Random directions to start from.
        steps: Steps of the ascent.
        learning_rate: Of Adam.
        projection: As in `sliced_wasserstein`.
        generator: Source of the directions.

    Returns:
        The distance in units of the features, and the unit direction ``(d,)``.

    Raises:
        ValueError: As `sliced_wasserstein`.

    Source: Max-Sliced Wasserstein Distance and its use for GANs (2019).
    """
    x, y = lazy_pair(x, y)
    _check_power(p)
    project = projection or _inner
    fixed = x.detach(), y.detach()
    starts = random_directions(n_projections, x.shape[1], orthogonal=False, generator=generator).to(x.device)
    with torch.no_grad():
        costs = _costs(*fixed, starts, p, project)
    best, best_cost = starts[costs.argmax()], float(costs.max())
    with torch.enable_grad():
        direction = best.clone().requires_grad_()
        optimiser = torch.optim.Adam([direction], lr=learning_rate)
        for _ in range(steps):
            optimiser.zero_grad()
            unit = direction / direction.norm()
            cost = _costs(*fixed, unit[None], p, project)[0]
            if float(cost.detach()) > best_cost:
                best, best_cost = unit.detach().clone(), float(cost.detach())
            (-cost).backward()
            optimiser.step()
            with torch.no_grad():
                direction /= direction.norm()
        last = direction.detach() / direction.detach().norm()
    if float(_costs(*fixed, last[None], p, project)[0]) > best_cost:
        best = last
    return _root(_costs(x, y, best[None], p, project)[0], p), best


def random_directions(
    count: int, d: int, *, orthogonal: bool = True, generator: Noise = None
) -> Float64[Tensor, "count d"]:
    """Unit vectors, uniform on the sphere; orthogonal within each block of d where asked."""
    if count < 1:
        raise ValueError(f"n_projections: expected at least 1, found {count}.")
    if not orthogonal:
        normal = randn((count, d), generator, dtype=torch.float64)
        return normal / normal.norm(dim=1, keepdim=True)
    normal = randn((-(-count // d), d, min(count, d)), generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    # The signs of R's diagonal make Q uniform over all rotations and reflections.
    return (q * r.diagonal(dim1=1, dim2=2).sign()[:, None]).mT.reshape(-1, d)[:count]


def _inner(rows: Tensor, directions: Tensor) -> Tensor:
    return rows @ directions.T


def _costs(x: Tensor, y: Tensor, directions: Tensor, p: float, project: Projection) -> Tensor:
    def costs(x: Tensor, y: Tensor, some: Tensor) -> Tensor:
        return transport.transport_cost_1d(_projected(x, some, project), _projected(y, some, project), p)

    whole = len(directions) <= LINES
    return torch.cat([checkpointed(costs, x, y, some, whole=whole) for some in directions.split(LINES)])


def _projected(rows: Tensor, directions: Tensor, project: Projection) -> Tensor:
    """Projections ``(n, L)``; of the rows only a block at a time is converted, for a gradient once more."""

    def converted(block: Tensor, directions: Tensor) -> Tensor:
        return project(block.double(), directions)

    lazy = rows.dtype != torch.float64
    return torch.cat([checkpointed(converted, block, directions, whole=not lazy) for _, block in blocks(rows)])


def _root(cost: Tensor, p: float) -> Tensor:
    """``cost^{1/p}`` with derivative 0 at 0."""
    positive = cost > 0
    return torch.where(positive, torch.where(positive, cost, 1.0) ** (1 / p), 0.0)


def _check_power(p: float) -> None:
    if not 1 <= p < torch.inf:
        raise ValueError(f"p: expected a finite number >= 1, found {p}.")
