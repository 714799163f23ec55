"""What every diagnostic of a field asks of its arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Gaussian


def check_gaussian(process: Any) -> Gaussian:
    """The process; raises ``ValueError`` unless it is Gaussian, for only then there is a score."""
    if not isinstance(process, Gaussian):
        raise ValueError(f"process: expected a Gaussian process, found {type(process).__name__}.")
    return process


def check_points(x: Any, name: str = "x_t", *, least: int = 1) -> Tensor:
    """Points ``(n, ...)``; raises ``ValueError`` unless there are ``least`` finite rows of floating-point numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a floating-point tensor, found {found}.")
    if x.ndim < 2 or len(x) < least or not x[0].numel():
        raise ValueError(f"{name}: expected shape (n, ...) with n >= {least}, found {tuple(x.shape)}.")
    bad = ~x.isfinite().flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(f"{name}: expected finite numbers, found NaN or infinity in row {int(bad.int().argmax())}.")
    return x.detach()


def check_rows(x: Any, name: str, *, least: int = 1) -> Tensor:
    """Points of shape ``(n, d)`` as float64; raises ``ValueError`` for anything else."""
    x = check_points(x, name, least=least)
    if x.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, d), found {tuple(x.shape)}.")
    return x.double()


def check_noisy(t: Any, x: Tensor, name: str = "t") -> Tensor:
    """Times as float64 ``(n,)``; raises ``ValueError`` unless one a row (or one for all), each in (0, 1]."""
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device).detach()
    if t.shape not in ((), (1,), x.shape[:1]):
        raise ValueError(f"{name}: expected one time or shape ({len(x)},), found {tuple(t.shape)}.")
    if not bool(((t > 0) & (t <= 1)).all()):
        raise ValueError(f"{name}: expected times in (0, 1], found {float(t.min()):g} to {float(t.max()):g}.")
    return t.expand(len(x)).contiguous()


def check_count(value: Any, name: str, *, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least`` and at most ``most``; raises ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number {limits}, found {value!r}.")
    return value


def check_levels(levels: Any, process: Gaussian | None = None, *, least: int = 1) -> Tensor:
    """Noise levels ``sigma / alpha`` as decreasing float64 ``(m,)``; raises ``ValueError`` for others.

    They must be positive and distinct, and where a process is given it must reach each of them.
    """
    levels = torch.as_tensor(levels, dtype=torch.float64)
    if levels.ndim != 1 or len(levels) < least:
        raise ValueError(f"noise_levels: expected at least {least} in one row, found shape {tuple(levels.shape)}.")
    if not bool((levels > 0).all() & levels.isfinite().all()) or len(levels.unique()) < len(levels):
        raise ValueError(f"noise_levels: expected distinct positive numbers, found {levels.tolist()}.")
    if process is not None:
        times = process.t_of_kappa(levels)
        if not bool(((times > 0) & (times <= 1)).all()):
            raise ValueError(
                "noise_levels: expected ratios sigma / alpha that the process reaches, "
                f"found {float(levels.min()):g} to {float(levels.max()):g}."
            )
    return levels.sort(descending=True).values


def at_level(process: Gaussian, level: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The time at which ``sigma / alpha`` is ``level``, one a row (or an element), and ``alpha`` against ``x``."""
    time = process.t_of_kappa(level.reshape(1))
    t = time.expand(len(x)) if time.numel() == 1 else time.expand(x.shape)  # a schedule a column: a time an element
    return t, process.coefficients(t, x)[0]


def in_state_precision(denoiser: Denoiser) -> Denoiser:
    """The denoiser with times in the precision of the state, as the sampling loop hands them over."""
    return lambda x, t: denoiser(x, t.to(x.dtype))
