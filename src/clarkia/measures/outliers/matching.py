"""Bring the residuals of a new class closer to those of known ones: codes of usual residuals, order statistics."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia._math.pairwise import squared_distances
from clarkia.random import Noise, rand

COMMITMENT = 0.25
CELLS = 4_000_000  # distances held at once


class VectorQuantiser(nn.Module):
    """Replace every row by the nearest of a set of learned codes.

    Args:
        codes: Starting codes ``(K, d)``; see `codes_of`.

    Source: Neural Discrete Representation Learning (2017).
    """

    def __init__(self, codes: Float[Tensor, "K d"]) -> None:
        super().__init__()
        self.codes = nn.Parameter(codes.detach().clone())

    @staticmethod
    def codes_of(rows: Float[Tensor, "n d"], count: int = 1536, *, generator: Noise = None) -> Float[Tensor, "K d"]:
        """Distinct rows drawn at random to start from, ``count`` of them or as many as there are."""
        distinct = rows.unique(dim=0)
        return distinct[rand((len(distinct),), generator).argsort()[:count].to(rows.device)]

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The nearest code of each row, ``(n, d)``; gradients pass straight through to the rows."""
        return x + (self.codes[self.nearest(x)] - x).detach()

    @torch.no_grad()
    def nearest(self, x: Float[Tensor, "n d"]) -> Tensor:
        """Number of the nearest code of each row, int64 ``(n,)``."""
        chunk = max(1, CELLS // len(self.codes))
        return torch.cat([squared_distances(part, self.codes).argmin(1) for part in x.split(chunk)])

    def loss(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """``|sg[x] - code|^2 / d + 0.25 |x - sg[code]|^2 / d`` of each row, ``(n,)``.

        The factor is on the term that commits the rows, as published; an option of a widespread implementation puts it
        on the codes.
        """
        codes = self.codes[self.nearest(x)]
        return (x.detach() - codes).square().mean(1) + COMMITMENT * (x - codes.detach()).square().mean(1)


def match_order_statistics(
    x: Float[Tensor, "*batch positions d"], reference: Float[Tensor, "*batch positions d"], keep: float = 0.4
) -> Float[Tensor, "*batch positions d"]:
    """Move every channel's sorted values towards those of a reference, each position keeping its rank.

    Args:
        x: Values ``(..., positions, d)``.
        reference: The same number of positions, ``(..., positions, d)``.
        keep: Share of the own values: 1 changes nothing, 0 puts the reference's values in their place.

    Returns:
        Values of the shape of ``x``; ties of ``x`` are told apart by position.

    Raises:
        ValueError: Shapes that differ, a share outside [0, 1].
    """
    if x.shape != reference.shape or x.ndim < 2:
        raise ValueError(f"reference: expected the shape {tuple(x.shape)} of x, found {tuple(reference.shape)}.")
    if not 0 <= keep <= 1:
        raise ValueError(f"keep: expected a share in [0, 1], found {keep!r}.")
    values, order = x.sort(dim=-2, stable=True)
    moved = keep * values + (1 - keep) * reference.sort(dim=-2).values
    return torch.empty_like(moved).scatter_(-2, order, moved)
