"""Layers of candidates around the targets: layer r holds the r-th nearest candidate of every target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clarkia._math.neighbours import k_nearest


@dataclass(frozen=True, eq=False)
class Layers:
    """The first k layers.

    Attributes:
        distance: Of target j to its r-th nearest candidate, ascending in r, ``(m, k)``.
        index: That candidate, ``(m, k)``.
        first: By candidate, the first layer (from 0) that it is in; k where it is in none, ``(n,)``.
    """

    distance: Float64[Tensor, "m k"]
    index: Int64[Tensor, "m k"]
    first: Int64[Tensor, " n"]

    def sizes(self) -> Int64[Tensor, " k"]:
        """Number of candidates in the first 1, 2, ... k layers together."""
        return torch.bincount(self.first, minlength=self.depth + 1)[: self.depth].cumsum(0)

    @property
    def depth(self) -> int:
        """Number k of layers."""
        return self.index.shape[1]


def layers(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], depth: int) -> Layers:
    """The first ``depth`` layers of candidates x around targets y; never holds all distances."""
    depth = min(depth, len(x))
    distance, index = k_nearest(y, x, depth)
    layer = torch.arange(depth).expand_as(index)
    first = torch.full((len(x),), depth).scatter_reduce(0, index.flatten(), layer.flatten(), "amin")
    return Layers(distance, index, first)


def layers_holding(x: Tensor, y: Tensor, size: int) -> Layers:
    """As many layers as it takes to hold ``size`` candidates."""
    found = layers(x, y, -(-size // len(y)) + 1)
    while int(found.sizes()[-1]) < size:
        found = layers(x, y, 2 * found.depth)
    return found
