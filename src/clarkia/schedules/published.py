"""Noise levels that others have found by optimisation, as data, and grids through them."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.schedules.grids import TimeGrid, at_levels

ALIGN_YOUR_STEPS = MappingProxyType(
    {
        "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
        "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
        "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
    }
)
"""Levels ``sigma / alpha`` of ten steps for Stable Diffusion 1.5, Stable Diffusion XL and Stable Video Diffusion.

The eleventh, the model's own least noise, is where longer grids are interpolated towards; a walk goes to 0 instead.

Source: Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (2024).
"""


def align_your_steps(num_steps: int, process: TimeGrid, preset: str = "sd15") -> Float[Tensor, " nodes"]:
    """The published grid of a model, or its log-linear interpolation where it has not ten steps.

    Args:
        num_steps: Number of steps.
        process: The Gaussian process the model was trained under.
        preset: A name in `ALIGN_YOUR_STEPS`.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Source: Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (2024).
    """
    if preset not in ALIGN_YOUR_STEPS:
        raise ValueError(f"preset: expected one of {sorted(ALIGN_YOUR_STEPS)}, found {preset!r}.")
    return interpolated(num_steps, process, ALIGN_YOUR_STEPS[preset])


def interpolated(num_steps: int, process: TimeGrid, levels: Sequence[float] | Tensor) -> Float[Tensor, " nodes"]:
    """A grid of any length through a decreasing list of noise levels, linear in ``log(sigma / alpha)`` between them.

    Args:
        num_steps: Number of steps; ``len(levels) - 1`` keeps every level but the last.
        process: A Gaussian process.
        levels: At least two positive ``sigma / alpha``, decreasing; a walk goes to 0 in place of the last.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Raises:
        ValueError: No step, or levels that do not decrease or are not positive.
    """
    log_levels = torch.as_tensor(levels, dtype=torch.float64).log()
    decreasing = bool(log_levels.isfinite().all() & (log_levels.diff() < 0).all())
    if log_levels.ndim != 1 or len(log_levels) < 2 or not decreasing:
        raise ValueError(f"levels: expected at least two positive, decreasing numbers, found {levels}.")
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, found {num_steps}.")
    place = torch.arange(num_steps, dtype=torch.float64) * (len(log_levels) - 1) / num_steps
    before = place.long().clamp(max=len(log_levels) - 2)
    return at_levels(process, torch.exp(torch.lerp(log_levels[before], log_levels[before + 1], place - before)))
