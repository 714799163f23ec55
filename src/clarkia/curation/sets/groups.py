"""Groups of points of different sizes in one tensor, and random draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from clarkia.measures import inputs
from clarkia.random import rand


def check_groups(groups: Any, *, least: int = 1, width: int | None = None) -> list[Tensor]:
    """Finite matrices ``(n_i, d)`` of one width, float64; raises ``ValueError`` naming the group otherwise.

    Args:
        groups: A sequence of matrices, or one tensor ``(g, n, d)``.
        least: Points a group must have.
        width: Numbers a point must have; None takes those of the first group.
    """
    if not isinstance(groups, Sequence | Tensor) or not len(groups):
        found = type(groups).__name__ if not isinstance(groups, Sequence | Tensor) else "none"
        raise ValueError(f"groups: expected a sequence of matrices (points, numbers), found {found}.")
    checked = [inputs.features(group, f"groups[{index}]") for index, group in enumerate(groups)]
    width = checked[0].shape[1] if width is None else width
    for index, group in enumerate(checked):
        if group.shape[1] != width or len(group) < least:
            raise ValueError(
                f"groups[{index}]: expected at least {least} points of {width} numbers, found {tuple(group.shape)}."
            )
    return checked


def padded(groups: Sequence[Tensor]) -> tuple[Float[Tensor, "g n d"], Bool[Tensor, "g n"]]:
    """Groups side by side, filled up with zeros to the size of the largest, and which points are there."""
    x = torch.nn.utils.rnn.pad_sequence(list(groups), batch_first=True)
    sizes = torch.tensor([len(group) for group in groups])
    return x, torch.arange(x.shape[1]) < sizes[:, None]


def halves(
    x: Float[Tensor, "g n d"], size: Int64[Tensor, " g"], most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two disjoint random parts of every group, each of half its points and at most ``most``.

    Returns:
        Points and presence of the first part, points and presence of the second: ``(g, k, d)`` and ``(g, k)`` twice.
    """
    n = x.shape[1]
    order = torch.argsort(torch.where(torch.arange(n) < size[:, None], rand(x.shape[:2], generator), 2.0), 1)
    k = min(most, (n + 1) // 2)
    place = torch.arange(k).expand(len(x), k)
    parts = []
    for start, count in ((torch.zeros_like(size), size // 2), (size // 2, size - size // 2)):
        index = order.gather(1, (start[:, None] + place).clamp(max=n - 1))
        parts += [x.take_along_dim(index.unsqueeze(2), 1), place < count[:, None]]
    return tuple(parts)  # type: ignore[return-value]


def mixed(
    first: Float[Tensor, "g n d"],
    first_present: Bool[Tensor, "g n"],
    second: Float[Tensor, "g n d"],
    second_present: Bool[Tensor, "g n"],
    generator: torch.Generator,
    *,
    sources: int = 3,
) -> tuple[Float[Tensor, "g n d"], Float[Tensor, "g n d"]]:
    """Replace every group by a random mixture of a few groups of the batch.

    Weights are uniform on the simplex (Dirichlet of ones). Each point is drawn by choosing a source by its weight and
    then one of the source's points; the two parts of a mixture come from the two parts of its sources, so that they
    stay disjoint. All points of the result are there.

    Args:
        first: One part of each group.
        first_present: Which of its points are there.
        second: The other part.
        second_present: Likewise.
        generator: Source of the mixtures.
        sources: Groups in a mixture.

    Source: Generative Distribution Embeddings (2025).
    """
    g = len(first)
    weight = -rand((g, sources), generator).clamp(min=1e-300).log()  # exponential numbers over their sum
    bounds = (weight / weight.sum(1, keepdim=True)).cumsum(1)
    group = (rand((g, sources), generator) * g).long()
    parts = []
    for x, present in ((first, first_present), (second, second_present)):
        n = x.shape[1]
        which = torch.searchsorted(bounds, rand((g, n), generator)).clamp(max=sources - 1)
        source = group.gather(1, which)
        point = (rand((g, n), generator) * present.sum(1)[source]).long()
        parts.append(x[source, point])  # points that are there come first in both parts
    return parts[0], parts[1]
