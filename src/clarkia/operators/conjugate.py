"""Conjugate gradients, all rows of a batch side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Float[Tensor, "n ..."],
    *,
    iterations: int = 200,
    tolerance: float = 1e-12,
) -> Float[Tensor, "n ..."]:
    """Solve ``M x = b`` with a symmetric positive semi-definite ``M``, one system a row.

    From the start at 0 a singular but solvable system is led to its shortest solution.

    Args:
        product: ``x -> M x``, row by row.
        b: Right-hand sides.
        iterations: At most this many products; in exact arithmetic as many as M has different eigenvalues suffice.
        tolerance: A row is finished where its residual is this share of its right-hand side; never below ten
            roundings of the dtype.

    Returns:
        The solutions, of the shape of ``b``.
    """
    tolerance = max(tolerance, 10 * torch.finfo(b.dtype).eps)
    x, r = torch.zeros_like(b), b
    p, square = r, _dot(r, r)
    target = tolerance**2 * square
    live = square > target
    for _ in range(iterations):
        if not bool(live.any()):
            break
        q = product(p)
        curvature = _dot(p, q)
        live = live & (curvature > 0)  # no curvature is left where a singular direction of M is reached
        step = torch.where(live, square / torch.where(live, curvature, 1.0), 0.0)
        x, r = x + step * p, r - step * q
        after = _dot(r, r)
        p = r + torch.where(live, after / torch.where(live, square, 1.0), 0.0) * p
        square = torch.where(live, after, square)
        live = live & (square > target)
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """One product a row, with the axes of ``a``."""
    return (a * b).flatten(1).sum(1).reshape(-1, *(1,) * (a.ndim - 1))
