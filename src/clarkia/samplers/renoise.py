"""The corruption from one time to a later one, of any process: how a run takes a step back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from clarkia.processes import Discrete, Gaussian, Mixed, Process
from clarkia.processes.times import Time, block_time, spread
from clarkia.random import Noise, randn
from clarkia.spaces import State


def renoised(process: Process, x_s: State, s: Time, t: Time, generator: Noise = None) -> State:
    """Draw ``x_t`` given ``x_s`` for t >= s; elements with s = t stay as they are.

    Numbers become ``a x_s + sqrt(sigma_t^2 - a^2 sigma_s^2) z`` with ``a = alpha_t / alpha_s``.

    Args:
        process: The corruption.
        x_s: State at time s.
        s: Its time.
        t: The noisier time.
        generator: Source of randomness.
    """
    if isinstance(process, Mixed):
        assert isinstance(x_s, Mapping)
        return {
            name: _block(part, x, block_time(s, name), block_time(t, name), generator)
            for name, part, x in process.each(x_s, "x_s")
        }
    return _block(process, x_s, s, t, generator)  # type: ignore[arg-type]


def _block(process: Gaussian | Discrete, x_s: Tensor, s: Tensor, t: Tensor, generator: Noise) -> Tensor:
    if isinstance(process, Discrete):
        return process.renoise(x_s, s, t, generator=generator)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (process.coefficients(time, x_s) for time in (s, t))
    moving = spread(t, x_s) > spread(s, x_s)
    kept = torch.where(moving, alpha_t / torch.where(moving, alpha_s, 1.0), 1.0)
    std = torch.where(moving, (sigma_t**2 - (kept * sigma_s) ** 2).clamp(min=0).sqrt(), 0.0)
    return kept * x_s + std * randn(x_s.shape, generator, dtype=x_s.dtype, device=x_s.device)
