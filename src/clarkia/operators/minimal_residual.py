"""Generalised minimal residuals, all rows of a batch side by side, for systems that are only nearly symmetric."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def minimal_residual(
    product: Callable[[Tensor], Tensor],
    b: Float[Tensor, "n ..."],
    *,
    iterations: int = 5,
    tolerance: float = 1e-4,
) -> Float[Tensor, "n ..."]:
    """Solve ``M x = b``, one system a row, by the combination of ``b, M b, M^2 b, ...`` that leaves the least residual.

    No symmetry is needed. Where M is the covariance of a learned denoiser, which is only nearly symmetric and positive,
    conjugate gradients run away after a few products; the residual here never grows.

    Args:
        product: ``x -> M x``, row by row.
        b: Right-hand sides.
        iterations: At most this many products; they are kept, so that memory grows with them.
        tolerance: All is finished where every residual is this share of its right-hand side.

    Returns:
        The solutions, of the shape of ``b``.

    Source: GMRES: A Generalized Minimal Residual Algorithm for Solving Nonsymmetric Linear Systems (1986).
    """
    size = b.flatten(1).norm(dim=1)
    basis = [_over(b, size)]
    table = b.new_zeros(len(b), iterations + 1, iterations)
    shares = b.new_zeros(len(b), 0)
    for step in range(iterations):
        new = product(basis[step])
        for index, vector in enumerate(basis):
            table[:, index, step] = (new * vector).flatten(1).sum(1)
            new = new - _raised(table[:, index, step], b) * vector
        table[:, step + 1, step] = new.flatten(1).norm(dim=1)
        basis.append(_over(new, table[:, step + 1, step]))
        system, target = table[:, : step + 2, : step + 1], b.new_zeros(len(b), step + 2, 1)
        target[:, 0, 0] = size
        # The pseudo-inverse, as rows that are solved before the others have nothing to add.
        solved = torch.linalg.pinv(system) @ target
        shares = solved[..., 0]
        if bool(((system @ solved - target).flatten(1).norm(dim=1) <= tolerance * size).all()):
            break
    terms = [_raised(shares[:, index], b) * basis[index] for index in range(shares.shape[1])]
    return torch.stack(terms).sum(0) if terms else torch.zeros_like(b)


def _raised(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))


def _over(values: Tensor, norm: Tensor) -> Tensor:
    """Rows of norm one; a row of norm zero stays."""
    return values / _raised(torch.where(norm > 0, norm, 1.0), values)
