"""Giving up on classes early: after so many draws only the best few go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Stages: TypeAlias = Sequence[tuple[int, int]]
"""``(draws so far, classes kept)`` of each stage."""

PRUNING: Mapping[str, Stages] = MappingProxyType(
    {
        "cifar10": ((50, 5), (500, 1)),
        "pets": ((25, 5), (250, 1)),
        "food": ((20, 20), (50, 10), (100, 5), (500, 1)),
        "flowers": ((20, 20), (50, 10), (100, 5), (500, 1)),
        "aircraft": ((20, 20), (50, 10), (100, 5), (500, 1)),
        "imagenet": ((50, 500), (100, 50), (500, 10), (1000, 1)),
    }
)
"""Published stages, by data set.

Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
"""


def check_stages(stages: Stages | str | None, num_draws: int, antithetic: bool) -> Stages:
    """The stages of a run: those given, those of a preset, or one that keeps all classes.

    Raises:
        ValueError: An unknown preset, draws that do not grow, classes that are not fewer and fewer, or a number of
            draws that pairs do not make up.
    """
    if isinstance(stages, str):
        if stages not in PRUNING:
            raise ValueError(f"stages: expected one of {', '.join(PRUNING)} or pairs, found {stages!r}.")
        stages = PRUNING[stages]
    found = ((num_draws, 0),) if stages is None else tuple((int(draws), int(kept)) for draws, kept in stages)
    draws, kept = [0, *(stage[0] for stage in found)], [stage[1] for stage in found]
    if len(draws) < 2 or any(later <= before for before, later in pairwise(draws)):
        raise ValueError(f"stages: expected at least one draw and more of them in each stage, found {found}.")
    if stages is not None and (kept[-1] < 1 or sorted(kept, reverse=True) != kept):
        raise ValueError(f"stages: expected at least 1 class, and no more than in the stage before, found {found}.")
    if antithetic and draws[-1] % 2:
        raise ValueError(f"num_draws: expected an even number for pairs of draws, found {draws[-1]}.")
    return found


def nested_order(strata: int) -> Int[Tensor, " strata"]:
    """An order of strata of which every beginning is spread over all of them: their numbers in bits, reversed."""
    bits = max(1, (strata - 1).bit_length())
    numbers = torch.arange(2**bits)
    reverse = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    assert isinstance(reverse, Tensor)
    return reverse[reverse < strata]


def keep_best(mean: Float[Tensor, "n c"], active: Tensor, kept: int) -> Tensor:
    """The active classes with the least mean error, bool ``(n, c)``; of equal ones the first."""
    order = torch.where(active, mean, torch.inf).argsort(dim=1, stable=True)
    best = torch.zeros_like(active).scatter(1, order[:, :kept], True)
    return best & active


def log_likelihoods(errors: Float[Tensor, "n c m"]) -> Float[Tensor, "n c"]:
    """Minus the mean error of each class; of a class that was given up, from the draws that it has.

    There it is told by its mean gap to the best class with all draws, on the same draws: that gap has next to none of
    the noise that the two share.

    Args:
        errors: In the order of the draws, NaN where a class was given up; some class of every row has all draws.
    """
    seen = ~errors.isnan()
    count = seen.sum(2)
    whole = torch.where(seen, errors, 0.0).sum(2) / count.clamp(min=1)
    if bool(seen.all()):
        return -whole
    full = count == errors.shape[2]
    leader = torch.where(full, whole, torch.inf).argmin(1)
    rows = torch.arange(len(errors), device=errors.device)
    best = errors[rows, leader].unsqueeze(1)
    gap = torch.where(seen & (errors != best), errors - best, 0.0).sum(2) / count.clamp(min=1)
    return -torch.where(full, whole, whole[rows, leader].unsqueeze(1) + gap)
