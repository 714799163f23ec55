"""The volume that a set of points dominates: one number for a whole front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia.measures.fronts.dominance import check_replicates, pareto_mask
from clarkia.measures.inputs import features
from clarkia.measures.intervals import LEVEL, Interval, percentile_interval
from clarkia.random import Noise, categorical, rand

Method: TypeAlias = Literal["staircase", "sweep", "slicing", "monte-carlo"]

MOST_SLICED = 50
"""Points of a front on more than three axes whose volume is computed exactly unless asked otherwise."""


@dataclass(frozen=True)
class Hypervolume:
    """A dominated volume.

    Attributes:
        value: The volume, in the product of the axes' units.
        standard_error: Monte Carlo error; 0 for an exact volume.
        method: How it was computed.
    """

    value: float
    standard_error: float
    method: Method

    def __float__(self) -> float:
        return self.value


def hypervolume(
    points: Any,
    reference: Any,
    *,
    method: Method | None = None,
    num_draws: int = 100_000,
    generator: Noise = None,
) -> Hypervolume:
    """Volume between a reference point and everything the points dominate; on every axis larger is better.

    It grows when a point improves and ignores dominated points. It depends on the scale of the axes and on the
    reference: fix both, and print them beside it.

    Args:
        points: ``(n, d)``. A point that is not above the reference on every axis adds nothing.
        reference: The worst acceptable value of each axis, ``(d,)``.
        method: ``"staircase"`` for two axes, ``"sweep"`` for three, ``"slicing"`` (exact, time grows with the power
            d - 2 of the front's size) or ``"monte-carlo"`` for any number. By default the exact one, and for more
            than 50 points of a front on more than three axes the last.
        num_draws: Of Monte Carlo.
        generator: Source of its randomness.

    Returns:
        The volume with its error and method.

    Raises:
        ValueError: Points or a reference that do not fit, or a method for another number of axes.

    Sources: A Fast Way of Calculating Exact Hypervolumes (2012); Approximating the Volume of Unions and Intersections
    of High-Dimensional Geometric Objects (2010).
    """
    heights = _heights(points, reference)
    d = heights.shape[1]
    if method is None:
        usual: tuple[Method, ...] = ("staircase", "staircase", "staircase", "sweep")
        method = usual[d] if d <= 3 else "slicing" if len(heights) <= MOST_SLICED else "monte-carlo"
    fits = {"staircase": d <= 2, "sweep": d == 3, "slicing": True, "monte-carlo": True}
    if not fits.get(method, False):
        raise ValueError(
            f"method: expected one of {[m for m, fit in fits.items() if fit]} on {d} axes, found {method!r}."
        )
    if not len(heights):
        return Hypervolume(0.0, 0.0, method)
    if method == "monte-carlo":
        return Hypervolume(*_monte_carlo(heights, num_draws, generator), method)
    return Hypervolume(float(_volume(heights.numpy(force=True))), 0.0, method)


def hypervolume_interval(
    replicates: Float[Tensor, "draws n d"], reference: Any, *, level: float = LEVEL, generator: Noise = None
) -> Interval:
    """Percentile interval of the hypervolume over draws of all points.

    Args:
        replicates: ``(draws, n, d)``, as for `front_probability`.
        reference: The worst acceptable value of each axis, ``(d,)``.
        level: Coverage.
        generator: Source of randomness where a volume is estimated.
    """
    values = [hypervolume(draw, reference, generator=generator).value for draw in check_replicates(replicates)]
    return percentile_interval(np.array(values), level)


def _heights(points: Any, reference: Any) -> Float64[Tensor, "n d"]:
    """The front above the reference, measured from it."""
    points = features(points, "points")
    origin = torch.as_tensor(reference, dtype=torch.float64, device=points.device)
    if origin.shape != points.shape[1:] or not bool(origin.isfinite().all()):
        raise ValueError(f"reference: expected {points.shape[1]} finite numbers, one an axis, found {origin.tolist()}.")
    heights = points - origin
    heights = heights[(heights > 0).all(1)].unique(dim=0)
    return heights[pareto_mask(heights)] if len(heights) else heights


def _volume(heights: Float64[np.ndarray, "n d"]) -> float:
    """Exact volume of the union of the boxes from the origin to the points, all positive.

    The last axis is cut at the points. From the lowest one on, the box of a point adds what the boxes of the higher
    ones leave of it; those reach above it, so that share is a volume on one axis fewer.
    """
    n, d = heights.shape
    if n == 0:
        return 0.0
    if n == 1:
        return float(heights[0].prod())
    if d <= 2:
        return _staircase(heights)
    if d == 3:
        return _sweep(heights)
    heights = heights[np.argsort(heights[:, -1])]
    bases = heights[:, :-1]
    total = 0.0
    for index, base in enumerate(bases):
        covered = np.minimum(bases[index + 1 :], base)
        total += heights[index, -1] * (base.prod() - _volume(_front(covered)))
    return total


def _front(heights: np.ndarray) -> np.ndarray:
    """Distinct points that no other dominates."""
    heights = np.unique(heights, axis=0)
    dominated = (heights[None] >= heights[:, None]).all(2).sum(1) > 1
    return heights[~dominated]


def _staircase(heights: np.ndarray) -> float:
    """Two axes: from the right, each step is as high as the highest point seen; one axis: the largest."""
    if heights.shape[1] == 1:
        return float(heights.max())
    right_to_left = heights[np.argsort(-heights[:, 0])]
    widths = -np.diff(right_to_left[:, 0], append=0.0)
    return float(widths @ np.maximum.accumulate(right_to_left[:, 1]))


def _sweep(heights: np.ndarray) -> float:
    """Three axes: between two levels of the third one, the staircase of the points above both."""
    from_top = heights[np.argsort(-heights[:, 2])]
    slabs = -np.diff(from_top[:, 2], append=0.0)
    order = np.argsort(-from_top[:, 0])
    widths = -np.diff(from_top[order, 0], append=0.0)
    total = 0.0
    rows = max(1, 2**22 // len(heights))
    for start in range(0, len(heights), rows):
        levels = np.arange(start, min(start + rows, len(heights)))
        # At level i the points 0..i are there; the others are on the ground.
        present = np.where(order[None] <= levels[:, None], from_top[order, 1][None], 0.0)
        total += float(slabs[levels] @ (np.maximum.accumulate(present, axis=1) @ widths))
    return total


def _monte_carlo(heights: Tensor, num_draws: int, generator: Noise) -> tuple[float, float]:
    """Draw a box in proportion to its volume and a point in it: the mean of 1 / (boxes around it) is the share.

    The relative error is bounded however many axes there are, which uniform draws in the bounding box lack.
    """
    if num_draws < 2:
        raise ValueError(f"num_draws: expected at least 2, found {num_draws}.")
    volumes = heights.prod(1)
    box = categorical(volumes.log().expand(num_draws, -1), generator)
    places = rand((num_draws, heights.shape[1]), generator, device=heights.device) * heights[box]
    rows = max(1, 2**22 // heights.numel())
    around = torch.cat([(part.unsqueeze(1) <= heights).all(2).sum(1) for part in places.split(rows)])
    terms = volumes.sum() / around.double()
    return float(terms.mean()), float(terms.std()) / num_draws**0.5
