"""A map that pulls usual residuals onto a thin shell and leaves unusual ones outside."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

WIDEST = 0.4  # of the outer radius; reached at length 0.96
WITHIN = 0.9  # share of the nearest unusual radius that usual rows stay inside
THICKNESS = 0.01  # of the shell, as a share of its outer radius
GAP = 0.1  # between the shell and where unusual rows are pushed to


class HypersphereConstraint(nn.Module):
    """A linear layer, batch normalisation and a ReLU, at every row or over 3 x 3 neighbours of a map.

    Args:
        width: Columns of a row, or channels of a map.
        spatial: Take maps ``(n, d, h, w)`` instead of rows ``(n, d)``.
        relu: End with the published ReLU. It puts mass on zeros, which a density has to stand.

    Source: Towards Class Agnostic Anomaly Detection via Residual Feature Learning (2025).
    """

    def __init__(self, width: int, *, spatial: bool = False, relu: bool = True) -> None:
        super().__init__()
        linear = nn.Conv2d(width, width, 3, padding=1, bias=False) if spatial else nn.Linear(width, width, bias=False)
        normalise = nn.BatchNorm2d(width) if spatial else nn.BatchNorm1d(width)
        self.layers = nn.Sequential(linear, normalise, nn.ReLU() if relu else nn.Identity())

    def forward(self, e: Float[Tensor, "n d *positions"]) -> Float[Tensor, "n d *positions"]:
        """Constrained residuals, of the shape of the residuals."""
        return self.layers(e)


def radius(e: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """``A = sqrt(|e| + 1) - 1`` of each row, ``(n,)``: half the length near 0, its root far away.

    The root of a length has no slope at 0; rows of zeros get none.
    """
    squared = e.square().sum(1)
    length = torch.where(squared > 0, squared.where(squared > 0, 1.0).sqrt(), 0.0)
    return (length + 1).sqrt() - 1


@dataclass(frozen=True)
class Shell:
    """Radii between which usual rows should lie.

    Attributes:
        inner: 99 % of the outer radius.
        outer: At most 0.4, and at most 90 % of the smallest radius of an unusual row in the batch.
    """

    inner: float
    outer: float

    @classmethod
    def of(cls, radii: Float[Tensor, " n"], unusual: Bool[Tensor, " n"]) -> Shell:
        """The shell of a batch with radii ``(n,)`` and unusual rows marked ``(n,)``."""
        outer = WIDEST
        if bool(unusual.any()):
            outer = min(WITHIN * float(radii[unusual].min()), WIDEST)
        return cls((1 - THICKNESS) * outer, outer)


def barrier(distance: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``exp(sg[x]) softplus(x)`` of how far outside a bound a row is: log 2 at the bound, growing faster than linearly.

    The stopped gradient in the first factor makes it a weight of the row.
    """
    return distance.detach().exp() * F.softplus(distance)


def contraction_loss(radii: Float[Tensor, " n"], shell: Shell) -> Float[Tensor, ""]:
    """Pull of usual rows onto the shell: mean barrier of those outside plus mean barrier of those inside of it.

    Args:
        radii: Radii of usual rows, ``(n,)``.
        shell: Bounds; rows between them add nothing.
    """
    return _mean(barrier(radii - shell.outer), radii > shell.outer) + _mean(
        barrier(shell.inner - radii), radii < shell.inner
    )


def preservation_loss(mapped: Float[Tensor, "n d"], e: Float[Tensor, "n d"], shell: Shell) -> Float[Tensor, ""]:
    """Keep unusual rows what they were and push those near the shell away from it.

    Mean squared change, one minus the mean cosine of before and after, and the mean barrier of rows whose radius is
    less than 0.1 outside the shell.

    Args:
        mapped: Unusual rows after the map, ``(n, d)``.
        e: The same before it.
        shell: Bounds of the usual rows.
    """
    if not len(e):
        return mapped.sum()  # of nothing: 0, with a gradient
    bound = shell.outer + GAP
    radii = radius(mapped)
    change = F.mse_loss(mapped, e) + (1 - F.cosine_similarity(mapped, e, dim=1)).mean()
    return change + _mean(barrier(bound - radii), radii < bound)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the marked rows; 0 where there are none."""
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)
