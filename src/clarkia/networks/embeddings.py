"""How a network reads the noise level: features of it by row, and the level of each element as more channels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

NoiseKind = Literal["fourier", "sinusoid"]


def sinusoid(values: Float[Tensor, "..."], size: int, period: float = 1e4) -> Float[Tensor, "... size"]:
    """Cosines and sines of the values at frequencies from 1 down to about 1 / period, in a geometric row.

    Args:
        values: Any shape; positions, or times scaled so that 1 is the finest difference that matters.
        size: Even number of features.
        period: Ratio of the highest to the lowest frequency.

    Source: Attention Is All You Need (2017).
    """
    if size % 2:
        raise ValueError(f"size: expected an even number, found {size}.")
    exponents = torch.arange(size // 2, dtype=values.dtype, device=values.device) / (size // 2)
    angles = values.unsqueeze(-1) * torch.exp(-math.log(period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class NoiseEmbedding(nn.Module):
    """Features of a row's noise level, then two layers.

    Args:
        width: Numbers it returns.
        kind: ``"fourier"``, random features of unit bandwidth, drawn now and kept as buffers, for
            ``c_noise = log(sigma / alpha) / 4`` and for times alike; ``"sinusoid"``, features of 1000 times the level,
            as published transformers read times in [0, 1] and not suited to ``c_noise``.
        features: Number of features.
        layers: Whether the two layers follow; without them `features` must be `width`.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022); Scalable Diffusion Models with
    Transformers (2023).
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, width: int, *, kind: NoiseKind = "fourier", features: int = 256, layers: bool = True) -> None:
        super().__init__()
        if kind not in ("fourier", "sinusoid"):
            raise ValueError(f"kind: expected 'fourier' or 'sinusoid', found {kind!r}.")
        if not layers and features != width:
            raise ValueError(f"features: expected the width {width} without layers, found {features}.")
        self.kind, self.features = kind, features
        if kind == "fourier":
            self.register_buffer("frequencies", torch.randn(features))
            self.register_buffer("phases", torch.rand(features))
        self.layers = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width)) if layers else None

    def forward(self, level: Float[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """The embedding of each row's level."""
        if self.kind == "sinusoid":
            features = sinusoid(1000.0 * level, self.features)
        else:
            turns = level[:, None] * self.frequencies + self.phases
            features = math.sqrt(2.0) * torch.cos(2.0 * math.pi * turns)
        # Times may be float64 beside float32 weights.
        return features if self.layers is None else self.layers(features.to(next(self.layers.parameters()).dtype))


def row_level(noise: Tensor, rows: int) -> Float[Tensor, " n"]:
    """The noise level of each row, the highest of its elements.

    Args:
        noise: ``(n,)``, or ``(n, ...)`` where elements have levels of their own.
        rows: n.

    Raises:
        ValueError: Another number of rows.
    """
    if noise.ndim < 1 or len(noise) != rows:
        raise ValueError(f"noise: expected {rows} rows, found shape {tuple(noise.shape)}.")
    return noise if noise.ndim == 1 else noise.flatten(1).amax(1)


def element_level(noise: Tensor, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """The noise level of each element less that of its row: 0 at the row's level, negative where more is known.

    Args:
        noise: ``(n,)``, or ``(n, ...)`` broadcastable against the inputs.
        inputs: Fixes shape and dtype.
    """
    if noise.ndim == 1:
        return torch.zeros_like(inputs)
    relative = noise - row_level(noise, len(inputs)).reshape(-1, *[1] * (noise.ndim - 1))
    return relative.to(inputs.dtype).expand_as(inputs)


def with_element_level(inputs: Float[Tensor, "n c ..."], noise: Tensor) -> Float[Tensor, "n c2 ..."]:
    """The inputs with their elements' levels as as many channels more, so that observed elements are known to be.

    Args:
        inputs: ``(n, channels, ...)``.
        noise: ``(n,)``, or ``(n, ...)`` broadcastable against the inputs.
    """
    return torch.cat([inputs, element_level(noise, inputs)], dim=1)
