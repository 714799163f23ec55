"""Networks from a set of points to one vector that depends on the empirical distribution alone."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clarkia.curation.checks import check_choice, check_count

Kind = Literal["pooled", "attention"]


class SetEncoder(nn.Module):
    """A vector of a set: the same for any order of its points and for any number of copies of the whole set.

    Points meet only in averages, weighted by 1/n or by attention, never in sums, maxima or counts. So the vector is a
    function of the empirical distribution, and that of n draws tends to that of their law with an error of order
    ``1 / sqrt(n)``. It is linear in the means and the deviations of features: from means alone training finds where a
    group lies long before how wide it is.

    Args:
        inputs: Numbers of a point.
        latent: Numbers of the vector.
        kind: ``"pooled"``: each layer sees a point beside the mean of all; ``"attention"``: layers of attention
            between the points, which cost their number squared.
        width: Units of a layer.
        depth: Layers in which points see each other.
        heads: Of the attention.

    Source: Generative Distribution Embeddings (2025).
    """

    def __init__(
        self, inputs: int, latent: int = 32, *, kind: Kind = "pooled", width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        check_choice(kind, "kind", ("pooled", "attention"))
        for value, name in ((inputs, "inputs"), (latent, "latent"), (width, "width"), (heads, "heads")):
            check_count(value, name)
        check_count(depth, "depth", least=0)
        if kind == "attention" and width % heads:
            raise ValueError(f"width: expected a multiple of {heads} heads, found {width}.")
        self.point = nn.Sequential(nn.Linear(inputs, width), nn.SELU(), nn.Linear(width, width), nn.SELU())
        layer = (lambda: _Attention(width, heads)) if kind == "attention" else (lambda: _Pooled(width))
        self.layers = nn.ModuleList(layer() for _ in range(depth))
        self.out = nn.Linear(2 * width, latent)

    def forward(self, x: Float[Tensor, "g n d"], present: Bool[Tensor, "g n"] | None = None) -> Float[Tensor, "g z"]:
        """Vectors of g sets.

        Args:
            x: Points.
            present: Which of them are there, at least one a set; the others are padding. None for all.
        """
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if present is None else present
        h = self.point(x)
        for layer in self.layers:
            h = layer(h, present)
        mean = mean_of(h, present)
        # 1e-6 bounds the slope of the root for a set of one point
        spread = (mean_of((h - mean).square(), present) + 1e-6).sqrt()
        return self.out(torch.cat([mean, spread], 2).squeeze(1))


def mean_of(h: Float[Tensor, "g n k"], present: Bool[Tensor, "g n"]) -> Float[Tensor, "g 1 k"]:
    """Mean over the points that are there."""
    weight = present.to(h).unsqueeze(2)
    return (h * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


class _Pooled(nn.Module):
    """A residual layer of every point and of the mean of all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.own, self.others = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width)

    def forward(self, h: Tensor, present: Tensor) -> Tensor:
        normal = self.norm(h)
        return h + self.down(F.selu(self.own(normal) + self.others(mean_of(normal, present))))


class _Attention(nn.Module):
    """A residual layer of attention among the points; weights sum to one, so copies of all points change nothing."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.middle = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor, present: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.project(self.norm(h)).chunk(3, 2)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None, :])
        h = h + self.merge(seen.transpose(1, 2).flatten(2))
        return h + self.down(F.selu(self.up(self.middle(h))))
