"""How the rows of a data set share a kernel density at a point: one of them, a few, or many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.pairwise import squared_distances
from clarkia.measures.density.profiles import Profile

BLOCK = 2**22
"""Numbers of the largest table of queries by rows that is made at once (32 MiB)."""


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The kernel density at m queries (of several bandwidths: one more axis in front), and who makes it up.

    With the shares ``w_i`` of the rows in the density at a query:

    Attributes:
        log_prob: Log-density, ``(..., m)``.
        effective: Effective number of rows ``1 / sum_i w_i^2``, from 1 to n, 0 where no row is in reach, ``(..., m)``.
        top: The largest share, ``(..., m)``.
        perplexity: ``exp(-sum_i w_i log w_i)``, which counts rows of little weight more than ``effective`` does.
    """

    log_prob: Float64[Tensor, "... m"]
    effective: Float64[Tensor, "... m"]
    top: Float64[Tensor, "... m"]
    perplexity: Float64[Tensor, "... m"]


def neighbourhoods(
    queries: Float[Tensor, "m d"],
    rows: Float[Tensor, "n d"],
    bandwidths: Float[Tensor, " h"],
    kernel: Profile,
    *,
    numbers: tuple[Tensor, Tensor] | None = None,
) -> Neighbourhood:
    """Densities and shares at every query for every bandwidth, ``(h, m)``, block of queries by block of queries.

    Args:
        queries: float64.
        rows: float64.
        bandwidths: Positive.
        kernel: The kernel.
        numbers: Identities of the queries ``(m,)`` and of the rows ``(n,)``; a row is left out of the density at a
            query of its own number. Equal rows have one number: a copy of the query would tell about itself.
    """
    size = max(1, BLOCK // len(rows))
    parts = []
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        squared = squared_distances(block, rows)
        same = None if numbers is None else numbers[0][start : start + size, None] == numbers[1]
        parts.append(torch.stack([_summary(squared, h, kernel, rows.shape[1], same) for h in bandwidths]))
    return Neighbourhood(*torch.cat(parts, 2).unbind(1))


def _summary(squared: Tensor, bandwidth: Tensor, kernel: Profile, d: int, same: Tensor | None) -> Tensor:
    """Log-density, effective number, top share and perplexity, ``(4, m)``."""
    log_kernel = kernel.log_kernel(squared, bandwidth, d)
    count: Tensor | int = squared.shape[1]
    if same is not None:
        log_kernel = log_kernel.masked_fill(same, -torch.inf)
        count = count - same.sum(1)
    top = log_kernel.detach().amax(1)
    reached = top > -torch.inf
    relative = torch.exp(log_kernel - torch.where(reached, top, 0.0)[:, None])
    mass = relative.sum(1)
    # Where no row is in reach the density is 0 and nothing shares it.
    log_mass = torch.where(reached, top + torch.where(reached, mass, 1.0).log(), -torch.inf)
    mass = torch.where(reached, mass, 1.0).detach()
    share = relative.detach() / mass[:, None]
    effective = torch.where(reached, 1 / share.square().sum(1).clamp(min=1e-300), 0.0)
    perplexity = torch.where(reached, torch.special.entr(share).sum(1).exp(), 0.0)
    log_prob = log_mass - torch.as_tensor(count, dtype=torch.float64, device=squared.device).log()
    return torch.stack([log_prob, effective, share.amax(1), perplexity])


def row_numbers(rows: Tensor) -> Tensor:
    """A number for each distinct row, ``(n,)``."""
    return rows.unique(dim=0, return_inverse=True)[1]
