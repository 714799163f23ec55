"""One front against another, the point to pick on it, and fronts group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.fronts.dominance import pareto_mask
from clarkia.measures.fronts.hypervolume import hypervolume
from clarkia.measures.inputs import features, pair


def epsilon_indicator(points: Any, target: Any) -> float:
    """The least number that, added to every axis of ``points``, makes them cover ``target``; larger is better.

    Args:
        points: ``(n, d)``, the set that is judged.
        target: ``(m, d)``, the set to be covered: each of its points must be reached on all axes by one of ours.

    Returns:
        In the units of the axes. At most 0 where ``points`` cover ``target`` as they are.

    Raises:
        ValueError: Sets that are no finite matrices of one width.

    Source: Performance Assessment of Multiobjective Optimizers: An Analysis and Review (2003).
    """
    points, target = pair(points, target, ("points", "target"))
    missing = (target.unsqueeze(1) - points.unsqueeze(0)).amax(2)  # how far each of ours falls short of each target
    return float(missing.amin(1).max())


def attainment(fronts: Sequence[Any], goals: Any) -> Float64[Tensor, " m"]:
    """Share of several fronts (of seeds, or of bootstrap draws) that reach each goal on all axes; larger is better.

    Args:
        fronts: Sets of points, each ``(n_i, d)``.
        goals: ``(m, d)``.

    Returns:
        Float64 ``(m,)``.

    Raises:
        ValueError: No front, or sets that are no finite matrices of one width.

    Source: On the Performance Assessment and Comparison of Stochastic Multiobjective Optimizers (1996).
    """
    if not len(fronts):
        raise ValueError("fronts: expected at least one, found none.")
    reached = []
    for front in fronts:
        points, wanted = pair(front, goals, ("fronts", "goals"))
        reached.append((points.unsqueeze(0) >= wanted.unsqueeze(1)).all(2).any(1))
    return torch.stack(reached).double().mean(0)


def knee(points: Any) -> int:
    """The front's point farthest beyond the plane through its extremes; larger is better.

    Axes are scaled to the front's own range. At the knee a further gain on one axis starts to cost more of the others
    than it did before.

    Args:
        points: ``(n, d)``.

    Returns:
        Index into ``points``; of equal ones the first. Where the front is one point, or a plane that has no knee, the
        point nearest to the best of all axes among the farthest.

    Raises:
        ValueError: Points that are no finite matrix.

    Source: Finding Knees in Multi-objective Optimization (2004).
    """
    points = features(points, "points")
    on_front = pareto_mask(points).nonzero().flatten()
    front = points[on_front].cpu()
    low, high = front.amin(0), front.amax(0)
    live = high > low
    if not bool(live.any()):
        return int(on_front[0])
    scaled = (front - low)[:, live] / (high - low)[live]
    extremes = scaled[scaled.argmax(0)]
    # The plane w . x = 1 through the extremes; with fewer distinct ones than axes, the flattest of those.
    normal = torch.linalg.lstsq(extremes, extremes.new_ones(len(extremes), 1), driver="gelsd").solution[:, 0]
    distance = (scaled @ normal - 1) / normal.norm()
    farthest = distance >= distance.max() - 1e-12
    balance = torch.where(farthest, scaled.amin(1), -torch.inf)
    return int(on_front[balance.argmax()])


@dataclass(frozen=True, eq=False)
class GroupFronts:
    """The same systems judged group by group (regions, classes).

    Attributes:
        groups: Names of the groups, k of them.
        masks: Which systems are on each group's front, bool ``(k, n)``.
        hypervolumes: Of each group, float64 ``(k,)``.
        gap: Largest less smallest hypervolume.
    """

    groups: tuple[str, ...]
    masks: Tensor
    hypervolumes: Float64[Tensor, " k"]
    gap: float


def group_fronts(points: dict[str, Any], reference: Any) -> GroupFronts:
    """Fronts and hypervolumes of the same systems in several groups, on the same axes from the same reference.

    Args:
        points: For each group the systems' points, ``(n, d)``, larger is better.
        reference: The worst acceptable value of each axis, ``(d,)``.

    Raises:
        ValueError: No group, groups of different shapes, or a reference that does not fit.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    if not points:
        raise ValueError("points: expected at least one group, found none.")
    tables = {name: features(table, f"points[{name!r}]") for name, table in points.items()}
    shapes = {tuple(table.shape) for table in tables.values()}
    if len(shapes) > 1:
        raise ValueError(f"points: expected the same systems and axes in every group, found shapes {sorted(shapes)}.")
    volumes = torch.tensor([hypervolume(table, reference).value for table in tables.values()], dtype=torch.float64)
    return GroupFronts(
        groups=tuple(tables),
        masks=torch.stack([pareto_mask(table) for table in tables.values()]),
        hypervolumes=volumes,
        gap=float(volumes.max() - volumes.min()),
    )
