"""The blocks of the convolutional network: residual, resampling, attentive."""

from __future__ import annotations

from math import sqrt
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.attention import CrossAttention, SelfAttention, num_heads

Layer = TypeVar("Layer", bound=nn.Module)

HALF = sqrt(0.5)
"""Sums of two are scaled by it, so that their variance stays that of one."""


class ResidualBlock(nn.Module):
    """Two convolutions behind group norms, the second scaled and shifted by noise level and condition.

    Args:
        inputs: Channels it is given.
        outputs: Channels it returns.
        steer: Numbers that noise level and condition come in.
        dropout: Probability of dropping a feature before the second convolution while training.
        resample: ``"down"`` to halve the sides, ``"up"`` to double them, "" for neither.
        head_size: Channels of a head of the attention that follows, see `num_heads`; None for no attention.
        cross: Whether the attention reads tokens too, of size `steer`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        steer: int,
        dropout: float = 0.0,
        resample: str = "",
        head_size: int | None = None,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.outputs, self.resample = outputs, resample
        self.norm1, self.norm2 = group_norm(inputs), group_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(steer, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = None if head_size is None else _Attention(outputs, head_size, steer if cross else None)

    def forward(
        self, x: Float[Tensor, "n c h w"], steer: Float[Tensor, "n d"], tokens: Tensor | None, mask: Tensor | None
    ) -> Float[Tensor, "n c2 h2 w2"]:
        """The block's answer.

        Args:
            x: Features.
            steer: Noise level and condition.
            tokens: ``(n, m, d)`` for cross-attention.
            mask: ``(n, m)``, True where a token is real.
        """
        h = F.silu(self.norm1(x))
        if self.resample == "up":
            h, x = convolve_doubled(h, self.conv1), F.interpolate(x, scale_factor=2, mode="nearest")
        elif self.resample == "down":
            h, x = self.conv1(F.avg_pool2d(h, 2)), F.avg_pool2d(x, 2)
        else:
            h = self.conv1(h)
        scale, shift = self.modulation(steer)[:, :, None, None].chunk(2, 1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1.0 + scale))
        x = (self.skip(x) + self.conv2(self.dropout(h))) * HALF
        return x if self.attention is None else self.attention(x, tokens, mask)


class _Attention(nn.Module):
    """Attention of pixels to each other and, where declared, to tokens; both start as the identity but for a scale."""

    def __init__(self, width: int, head_size: int, context: int | None) -> None:
        super().__init__()
        heads = num_heads(width, head_size)
        self.norm, self.own = group_norm(width), SelfAttention(width, heads)
        zeroed(self.own.out)
        self.cross = None
        if context is not None:
            self.cross_norm = group_norm(width)
            self.cross = CrossAttention(width, heads, context_width=context)
            zeroed(self.cross.out)

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        sides = x.shape[2:]
        answer = self.own(self.norm(x).flatten(2).transpose(1, 2))
        x = (x + answer.transpose(1, 2).unflatten(2, sides)) * HALF
        if self.cross is not None and tokens is not None:
            answer = self.cross(self.cross_norm(x).flatten(2).transpose(1, 2), tokens, mask)
            x = (x + answer.transpose(1, 2).unflatten(2, sides)) * HALF
        return x


def group_norm(channels: int) -> nn.GroupNorm:
    """A group norm of 32 groups, or of the largest number below that divides the channels."""
    return nn.GroupNorm(next(groups for groups in range(32, 0, -1) if channels % groups == 0), channels)


def zeroed(layer: Layer) -> Layer:
    """The layer with all its parameters at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def convolve_doubled(x: Float[Tensor, "n c h w"], layer: nn.Conv2d) -> Float[Tensor, "n c2 h2 w2"]:
    """A 3x3 convolution of the image doubled in size, at less than half its multiply-adds.

    Where a doubled image repeats its pixels, three taps fall on two of them. So each of the four phases of the answer,
    even and odd rows and columns, is a 2x2 convolution of the small image.

    Args:
        x: The small image.
        layer: The convolution, padded by 1.
    """
    n, _, h, w = x.shape
    even, odd = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    taps = torch.tensor((even, odd), dtype=layer.weight.dtype, device=x.device)
    kernels = torch.einsum("pak,qbl,oikl->pqoiab", taps, taps, layer.weight)
    answers = F.conv2d(x, kernels.flatten(0, 2), padding=1).unflatten(1, kernels.shape[:3])
    phases = [answers[:, p, q, :, p : p + h, q : q + w] for p in (0, 1) for q in (0, 1)]
    doubled = torch.stack(phases, -1).unflatten(-1, (2, 2)).permute(0, 1, 2, 4, 3, 5)
    doubled = doubled.reshape(n, len(layer.weight), 2 * h, 2 * w)
    return doubled if layer.bias is None else doubled + layer.bias[:, None, None]
