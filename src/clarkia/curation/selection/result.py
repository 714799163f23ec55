"""What a selection is, and how it is turned into repetitions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from clarkia.curation.checks import check_count


@dataclass(frozen=True, eq=False)
class Selection:
    """Which candidates to take, and how much of each.

    Attributes:
        indices: Of the selected candidates, ascending, int64 ``(k,)``.
        weights: One a selected candidate, in the order of ``indices``, positive, of mean one: larger where more mass
            brings the selection nearer to the target; float64 ``(k,)``.
        distance: Entropic transport cost between the selection, equally weighted, and all targets.
        distance_curve: By fold of the automatic size, the costs for 1, 2, ... neighbours a target, the last of which
            was no longer lower; empty where the size was given.
        share: Selected candidates over all.
    """

    indices: Int64[Tensor, " k"]
    weights: Float64[Tensor, " k"]
    distance: float
    distance_curve: tuple[Float64[Tensor, " r"], ...]
    share: float


def repetition_counts(weights: Float[Tensor, " k"], slots: int, *, num_targets: int = 0) -> Int64[Tensor, " k_and_m"]:
    """How often each row is repeated in a training set of a fixed number of slots.

    Weights are scaled to sum to the number of slots and rounded down; the slots that are left go to the largest
    fractions, the earlier row first where they are equal.

    Args:
        weights: Of the selected rows, not negative, not all 0, ``(k,)``.
        slots: Size of the training set.
        num_targets: Number of target rows to add, each with the largest weight.

    Returns:
        Counts that sum to ``slots``, int64 ``(k + num_targets,)``: the selected rows, then the target rows.

    Raises:
        ValueError: Weights that are no such numbers, or a number that is not a whole one.

    Source: TAROT: Targeted Data Selection via Optimal Transport (2024).
    """
    check_count(slots, "slots", least=0)
    check_count(num_targets, "num_targets", least=0)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    good = weights.ndim == 1 and bool((weights.isfinite() & (weights >= 0)).all()) and bool((weights > 0).any())
    if not good:
        raise ValueError("weights: expected numbers that are not negative and not all 0, found others.")
    every = torch.cat([weights, weights.max().expand(num_targets)])
    scaled = every * (slots / every.sum())
    counts = scaled.floor().long()
    left = slots - int(counts.sum())
    counts[torch.argsort(scaled - counts, descending=True, stable=True)[:left]] += 1
    return counts
