"""Which points lose to no other on every axis at once, and how sure that is."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from clarkia.measures.inputs import features
from clarkia.random import Noise, randn

PAIRS = 2**22  # of points that are compared at once


def pareto_mask(points: Any, *, tolerance: float = 0.0) -> Bool[Tensor, " n"]:
    """Find the points that no other point dominates; on every axis larger is better.

    A point is dominated by one that is at least as good on every axis and better by more than ``tolerance`` on one.
    Equal points do not dominate each other.

    Args:
        points: ``(n, d)``, one row a system or setting, one column an axis.
        tolerance: Advantage that does not count, in the units of the axes; 0 for the exact front.

    Returns:
        True on the front, bool ``(n,)``. Two axes take a sort, more of them all pairs in blocks.

    Raises:
        ValueError: Points that are no finite matrix, or a negative tolerance.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    points = features(points, "points")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance: expected a number of at least 0, found {tolerance}.")
    if points.shape[1] == 1:
        return points[:, 0] >= points.max() - tolerance
    if points.shape[1] == 2:
        first, second = points.unbind(1)
        return ~(_beaten(first, second, tolerance) | _beaten(second, first, tolerance))
    return _by_pairs(points, tolerance)


def _beaten(first: Tensor, second: Tensor, tolerance: float) -> Tensor:
    """Points for which another is better by more than the tolerance on the first axis and no worse on the second."""
    ordered, index = first.sort()
    best_from = second[index].flip(0).cummax(0).values.flip(0)  # the best second axis from here upwards
    best_from = torch.cat([best_from, best_from.new_full((1,), -torch.inf)])
    return best_from[torch.searchsorted(ordered, first + tolerance, right=True)] >= second


def _by_pairs(points: Tensor, tolerance: float) -> Tensor:
    mask = []
    for block in points.split(max(1, PAIRS // points.numel())):
        gap = points.unsqueeze(0) - block.unsqueeze(1)  # (rows, n, d): by how much each other point is better
        mask.append(~((gap >= 0).all(2) & (gap > tolerance).any(2)).any(1))
    return torch.cat(mask)


def normal_replicates(
    points: Any, standard_errors: Any, *, num_draws: int = 1000, generator: Noise = None
) -> Float64[Tensor, "draws n d"]:
    """Draw what the points might have been: normal numbers around them with their standard errors.

    Args:
        points: ``(n, d)``.
        standard_errors: Of the same shape, not negative.
        num_draws: Number of draws.
        generator: Source of randomness.

    Returns:
        Float64 ``(num_draws, n, d)``, for `front_probability` and `hypervolume_interval`.

    Raises:
        ValueError: Matrices that do not fit, or a negative error.
    """
    points, errors = features(points, "points"), features(standard_errors, "standard_errors")
    if errors.shape != points.shape:
        raise ValueError(f"standard_errors: expected shape {tuple(points.shape)}, found {tuple(errors.shape)}.")
    if bool((errors < 0).any()):
        raise ValueError(f"standard_errors: expected numbers of at least 0, found {float(errors.min())}.")
    if num_draws < 1:
        raise ValueError(f"num_draws: expected at least 1, found {num_draws}.")
    noise = randn((num_draws, *points.shape), generator, dtype=torch.float64, device=points.device)
    return points + errors * noise


def front_probability(replicates: Float[Tensor, "draws n d"]) -> Float64[Tensor, " n"]:
    """Share of replicates in which each point is on the front.

    The front of noisy estimates is an optimistic one: it collects the points that were lucky. A point that is on it
    in half of the replicates is there by luck; estimate the front's points again with fresh seeds.

    Args:
        replicates: Draws of all points, ``(draws, n, d)``: a bootstrap over seeds or rows, or `normal_replicates`.

    Returns:
        Float64 ``(n,)``.

    Raises:
        ValueError: Replicates of another shape or not finite.
    """
    replicates = check_replicates(replicates)
    return torch.stack([pareto_mask(draw) for draw in replicates]).double().mean(0)


def check_replicates(replicates: Any) -> Float64[Tensor, "draws n d"]:
    """Replicates as float64; raises ``ValueError`` unless they are finite and ``(draws, n, d)``."""
    replicates = torch.as_tensor(replicates, dtype=torch.float64)
    if replicates.ndim != 3 or not replicates.numel():
        raise ValueError(f"replicates: expected shape (draws, n, d), found {tuple(replicates.shape)}.")
    if not bool(replicates.isfinite().all()):
        raise ValueError("replicates: expected finite numbers, found a NaN or infinity.")
    return replicates
