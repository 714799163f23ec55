"""How much a Gaussian loss cares about each noise level: factors ``w(s)`` of the squared error of ``x0_hat``.

Every published loss of a Gaussian process, whatever its network predicts, is one row of `WEIGHTS`. A weight is a
function of ``s = sigma / alpha``, a float64 tensor; the rows named after a variance-preserving prediction are equal to
the squared error of that prediction where ``alpha^2 + sigma^2 = 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

Weight: TypeAlias = Callable[[Tensor], Tensor]


def x0(s: Tensor) -> Tensor:
    """1: the squared error of the data."""
    return torch.ones_like(s)


def epsilon(s: Tensor) -> Tensor:
    """``1 / s^2``: the squared error of the noise.

    Source: Denoising Diffusion Probabilistic Models (2020).
    """
    return s**-2


def v(s: Tensor) -> Tensor:
    """``1 + 1 / s^2``: the squared error of ``v = alpha epsilon - sigma x0``.

    Source: Progressive Distillation for Fast Sampling of Diffusion Models (2022).
    """
    return 1 + s**-2


def flow(s: Tensor) -> Tensor:
    """``(1 + 1 / s)^2``: the squared error of a rectified flow's velocity, ``1 / t^2``.

    Source: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (2022).
    """
    return (1 + 1 / s) ** 2


def edm(data_std: float | Tensor = 0.5) -> Weight:
    """``1 / s^2 + 1 / data_std^2``: the squared error of the raw network in EDM's preconditioning.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """
    return lambda s: s**-2 + torch.as_tensor(data_std, dtype=s.dtype, device=s.device) ** -2


def min_snr(gamma: float = 5.0) -> Weight:
    """``min(1 / s^2, gamma)``.

    Source: Efficient Diffusion Training via Min-SNR Weighting Strategy (2023).
    """
    if not gamma > 0:
        raise ValueError(f"gamma: expected a positive number, found {gamma}.")
    return lambda s: (s**-2).clamp(max=gamma)


def p2(k: float = 1.0, gamma: float = 1.0) -> Weight:
    """``1 / s^2 / (k + 1 / s^2)^gamma``.

    Source: Perception Prioritized Training of Diffusion Models (2022).
    """
    if not k > 0:
        raise ValueError(f"k: expected a positive number, found {k}.")
    return lambda s: s**-2 / (k + s**-2) ** gamma


WEIGHTS: Mapping[str, Callable[[float | Tensor], Weight]] = MappingProxyType(
    {
        "x0": lambda data_std: x0,
        "eps": lambda data_std: epsilon,
        "v": lambda data_std: v,
        "flow": lambda data_std: flow,
        "edm": edm,
        "min_snr": lambda data_std: min_snr(),
        "p2": lambda data_std: p2(),
    }
)
"""The published rows by name, each a function of the data's standard deviation."""


def output_variance(s: Tensor, data_std: float | Tensor) -> Tensor:
    """``c_out^2 = 1 / (1 / s^2 + 1 / data_std^2)``: the scale at which errors of ``x0_hat`` are of order one."""
    return 1 / edm(data_std)(s)
