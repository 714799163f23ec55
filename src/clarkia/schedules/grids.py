"""Grids of times a sampler walks: float64 on the host, ``num_steps + 1`` of them, decreasing from 1 to 0.

A grid that spaces noise levels puts ``num_steps`` of them between the most and the least noise, then 0, so that the
last step takes the prediction for the sample. Levels are ``kappa = sigma / alpha``, the noise scale of EDM and of
Stable Diffusion, so one grid means the same under any Gaussian process.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class TimeGrid(Protocol):
    """What the grids need of a Gaussian process."""

    def kappa(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio."""
        ...

    def t_of_kappa(self, kappa: Tensor) -> Tensor:
        """Its inverse."""
        ...


# ------------------------------------------------------------------------------------------------ spaced in time


def uniform(num_steps: int) -> Float[Tensor, " nodes"]:
    """``num_steps + 1`` float64 times, evenly spaced from 1 to 0."""
    _check_steps(num_steps)
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def quadratic(num_steps: int, power: float = 2.0) -> Float[Tensor, " nodes"]:
    """Times whose root ``t^(1/power)`` is evenly spaced from 1 to 0; a higher power is finer near the data.

    Args:
        num_steps: Number of steps.
        power: Any positive number; 1 is `uniform`.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Source: Denoising Diffusion Implicit Models (2021).
    """
    if not power > 0:
        raise ValueError(f"power: expected a positive number, found {power}.")
    return uniform(num_steps) ** power


def discrete(
    num_steps: int,
    num_levels: int = 1000,
    spacing: Literal["trailing", "leading", "linspace"] = "trailing",
) -> Float[Tensor, " nodes"]:
    """Times ``k / num_levels`` with whole ``k``, the only ones that a network trained on that many levels knows.

    Args:
        num_steps: Number of steps, at most ``num_levels``.
        num_levels: Number of noise levels of the training.
        spacing: ``"trailing"`` counts down from the last level; ``"linspace"`` goes evenly from the last level to the
            first; ``"leading"`` counts up from the first in whole strides, and so starts below the last level, on
            noise that is not pure: kept for replication only.

    Returns:
        ``num_steps + 1`` float64 times decreasing to 0, from 1 unless the spacing is leading.

    Source: Common Diffusion Noise Schedules and Sample Steps are Flawed (2023).
    """
    _check_steps(num_steps)
    if num_steps > num_levels:
        raise ValueError(f"num_steps: expected at most {num_levels}, the number of levels, found {num_steps}.")
    index = torch.arange(num_steps, dtype=torch.float64)
    if spacing == "trailing":
        level = torch.round(num_levels - index * (num_levels / num_steps))
    elif spacing == "linspace":
        level = 1 + torch.round(_ramp(num_steps, num_levels - 1, 0))
    elif spacing == "leading":
        level = 1 + index.flip(0) * (num_levels // num_steps)
    else:
        raise ValueError(f"spacing: expected 'trailing', 'leading' or 'linspace', found {spacing!r}.")
    return torch.cat([level, level.new_zeros(1)]) / num_levels


def shift(times: Float[Tensor, " nodes"], scale: float) -> Float[Tensor, " nodes"]:
    """Move the inner times of a grid: ``t -> s t / (1 + (s - 1) t)``, which for rectified flow multiplies kappa by s.

    Args:
        times: A grid in [0, 1]; 0 and 1 stay where they are.
        scale: ``s``; above 1 spends more steps at high noise, as data of more pixels need.

    Returns:
        The grid, float64, as long as before.

    Source: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (2024).
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a positive number, found {scale}.")
    times = check_times(times)
    return scale * times / (1 + (scale - 1) * times)


# ----------------------------------------------------------------------------------------- spaced in noise levels


def log_snr(
    num_steps: int, process: TimeGrid, *, kappa_min: float | None = None, kappa_max: float | None = None
) -> Float[Tensor, " nodes"]:
    """Times evenly spaced in the log signal-to-noise ratio of a Gaussian process, then 0.

    Args:
        num_steps: Number of steps.
        process: A Gaussian process.
        kappa_min: Last ``sigma / alpha`` before 0; by default the process's own limit, or 0.002 where that is 0.
        kappa_max: First one; by default the process's own, or 80 where that is infinite.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.
    """
    return polyexp(num_steps, process, 1.0, kappa_min=kappa_min, kappa_max=kappa_max)


def polyexp(
    num_steps: int,
    process: TimeGrid,
    rho: float = 1.0,
    *,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
) -> Float[Tensor, " nodes"]:
    """Times at which ``log(sigma / alpha)`` falls as ``(1 - i / (num_steps - 1))^rho``, then 0.

    Args:
        num_steps: Number of steps.
        process: A Gaussian process.
        rho: Curvature; 1 is `log_snr`, above 1 is finer near the data.
        kappa_min: As in `log_snr`.
        kappa_max: As in `log_snr`.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.
    """
    _check_positive("rho", rho)
    high, low = kappa_range(process, kappa_min, kappa_max)
    return at_levels(process, low * torch.exp(_ramp(num_steps, 1, 0) ** rho * math.log(high / low)))


def karras(
    num_steps: int,
    process: TimeGrid,
    rho: float = 7.0,
    *,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
) -> Float[Tensor, " nodes"]:
    """Times at which ``(sigma / alpha)^(1/rho)`` is evenly spaced, then 0; arguments and result as `log_snr`.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """
    _check_positive("rho", rho)
    high, low = kappa_range(process, kappa_min, kappa_max)
    return at_levels(process, _ramp(num_steps, high ** (1 / rho), low ** (1 / rho)) ** rho)


def beta(
    num_steps: int,
    process: TimeGrid,
    a: float = 0.6,
    b: float = 0.6,
    *,
    kappa_min: float | None = None,
    kappa_max: float | None = None,
) -> Float[Tensor, " nodes"]:
    """Times at which ``sigma / alpha`` runs through even quantiles of a beta distribution, then 0.

    Args:
        num_steps: Number of steps.
        process: A Gaussian process.
        a: First parameter; below 1 crowds the levels at the least noise.
        b: Second parameter; below 1 crowds them at the most noise.
        kappa_min: As in `log_snr`.
        kappa_max: As in `log_snr`.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.

    Source: Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise
    Spectral Analysis (2024).
    """
    from scipy.special import betaincinv

    _check_positive("a", a)
    _check_positive("b", b)
    high, low = kappa_range(process, kappa_min, kappa_max)
    return at_levels(process, low + (high - low) * torch.from_numpy(betaincinv(a, b, _ramp(num_steps, 1, 0).numpy())))


def cosine(num_steps: int, process: TimeGrid) -> Float[Tensor, " nodes"]:
    """Times evenly spaced in the angle ``arctan(sigma / alpha)`` down to 0: the cosine schedule's under any process.

    Args:
        num_steps: Number of steps.
        process: A Gaussian process.

    Returns:
        ``num_steps + 1`` float64 times decreasing from 1 to 0.
    """
    angle = math.atan(_ends(process)[0])
    return at_levels(process, torch.tan(angle * uniform(num_steps)[:-1]))


# ----------------------------------------------------------------------------------------------------- the parts


def check_times(times: Tensor) -> Tensor:
    """The grid as float64, ``(steps + 1,)`` or one a row ``(steps + 1, n)``.

    Raises:
        ValueError: Fewer than two times, a time outside [0, 1], or an increase (or, in a shared grid, a repetition).
    """
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.ndim not in (1, 2) or len(times) < 2:
        raise ValueError(f"times: expected shape (steps + 1,) or (steps + 1, n), found {tuple(times.shape)}.")
    if not bool(((times >= 0) & (times <= 1)).all()):
        raise ValueError(f"times: expected values in [0, 1], found {float(times.min())} to {float(times.max())}.")
    gaps = times[:-1] - times[1:]
    bad = (gaps < 0).flatten(1).any(1) if times.ndim == 2 else gaps <= 0
    if bool(bad.any()):
        raise ValueError(
            f"times: expected a decreasing grid, found an increase or repetition at step {int(bad.int().argmax())}."
        )
    return times


def kappa_range(process: TimeGrid, low: float | None, high: float | None) -> tuple[float, float]:
    """The most and the least ``sigma / alpha`` of a grid: those given, or the defaults that `log_snr` states."""
    most, least = _ends(process)
    high = (most if most < 1e9 else 80.0) if high is None else high
    low = (least if least > 1e-9 else 0.002) if low is None else low
    if not 0 < low < high < math.inf:
        raise ValueError(f"kappa: expected 0 < kappa_min < kappa_max, found {low} and {high}.")
    return high, low


# A Gaussian process is clean at t = 0 itself, so a node meant for the least noise sits this far above it.
_LEAST_TIME = 1e-6


def at_levels(process: TimeGrid, kappa: Float[Tensor, " levels"]) -> Float[Tensor, " nodes"]:
    """The grid through decreasing levels of ``sigma / alpha``: its first time is moved to 1, and 0 follows its last."""
    with torch.no_grad():
        t = process.t_of_kappa(kappa).clamp(_LEAST_TIME, 1.0)
    t = t.flatten(1).mean(1) if t.ndim > 1 else t  # a schedule a column: the mean time
    t[0] = 1.0
    return torch.cat([t, t.new_zeros(1)])


def _ends(process: TimeGrid) -> tuple[float, float]:
    """``sigma / alpha`` at t = 1 and towards t = 0."""
    if not hasattr(process, "kappa"):
        raise ValueError(
            f"process: expected a Gaussian process, found {type(process).__name__}; use schedules.uniform."
        )
    with torch.no_grad():
        most, least = (float(process.kappa(torch.tensor([t], dtype=torch.float64)).mean()) for t in (1.0, 1e-300))
    return most, least


def _ramp(num_steps: int, first: float, last: float) -> Tensor:
    _check_steps(num_steps)
    return torch.linspace(first, last, num_steps, dtype=torch.float64)


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, found {num_steps}.")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, found {value}.")
