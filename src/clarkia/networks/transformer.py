"""One transformer block for sequences and fields: pre-norm, with gains of its own or modulated by a condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.attention import SelfAttention, attend, rotate


class TransformerBlock(nn.Module):
    """Attention and a GELU MLP of four times the width, each after a layer norm and added to the stream.

    Args:
        width: Features of a token.
        heads: Attention heads; divides the width.
        modulated: False: norms have gains and offsets. True: a vector gives both, and a gate on each branch, which is
            zero at the start, so that the block is then the identity (adaLN-Zero).
        dropout: Share of the features of each branch dropped while training.

    Source: Scalable Diffusion Models with Transformers (2023); unmodulated as in Your Absorbing Discrete Diffusion
    Secretly Models the Conditional Distributions of Clean Data (2024).
    """

    def __init__(self, width: int, heads: int, *, modulated: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=not modulated, eps=1e-6) for _ in range(2))
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)
        for linear in (self.attention.qkv, self.attention.out, self.mlp[0], self.mlp[2]):
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
        self.modulation = modulation(width, 6) if modulated else None

    def forward(
        self,
        h: Float[Tensor, "n l width"],
        c: Float[Tensor, "n m width"] | None = None,
        mask: Tensor | None = None,
        angles: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "n l width"]:
        """The tokens after the block.

        Args:
            h: Tokens.
            c: What modulates them, one vector a row (m = 1) or one a token (m = l); None where nothing does.
            mask: Which tokens may be looked at, as in `SelfAttention`.
            angles: Rotary angles of the tokens.
            cache: Keys and values of the tokens before these; attention is then causal and the mask left out.
        """
        shift, scale, gate, shift2, scale2, gate2 = (None,) * 6
        if self.modulation is not None:
            shift, scale, gate, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        x = modulate(self.norms[0](h), shift, scale)
        x = self.attention(x, mask, angles) if cache is None else cache.attend(self.attention, x, angles)
        h = h + gated(self.dropout(x), gate)
        x = self.mlp(modulate(self.norms[1](h), shift2, scale2))
        return h + gated(self.dropout(x), gate2)


def modulation(width: int, parts: int) -> nn.Sequential:
    """The layer from a vector to its parts, which are zero at the start."""
    linear = nn.Linear(width, parts * width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """``x (1 + scale) + shift``; x itself where there are none."""
    return x if shift is None or scale is None else x * (1 + scale) + shift


def gated(x: Tensor, gate: Tensor | None) -> Tensor:
    """``x gate``; x itself where there is none."""
    return x if gate is None else x * gate


@dataclass(eq=False)
class KeyValueCache:
    """Keys and values of the tokens so far of one causal block, so that each new token costs one look back.

    Attributes:
        keys: ``(n, heads, room, size)``.
        values: Likewise.
        filled: Tokens so far.
    """

    keys: Tensor
    values: Tensor
    filled: int = 0

    @classmethod
    def empty(cls, attention: SelfAttention, rows: int, room: int) -> KeyValueCache:
        """Room for so many tokens of so many rows, in the dtype and on the device of the weights."""
        weight = attention.out.weight
        shape = (rows, attention.heads, room, weight.shape[0] // attention.heads)
        return cls(weight.new_empty(shape), weight.new_empty(shape))

    def attend(
        self, attention: SelfAttention, x: Float[Tensor, "n l width"], angles: Tensor | None
    ) -> Float[Tensor, "n l width"]:
        """What ``attention`` answers to new tokens that look at those before and at themselves, which are then kept."""
        q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if attention.norm is not None:
            q, k = attention.norm(q, k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        start, self.filled = self.filled, self.filled + x.shape[1]
        self.keys[:, :, start : self.filled] = k
        self.values[:, :, start : self.filled] = v
        places = torch.arange(self.filled, device=x.device)
        mask = None if x.shape[1] == 1 else (places <= places[start:, None])[None]
        answer = attend(q.to(self.keys.dtype), self.keys[:, :, : self.filled], self.values[:, :, : self.filled], mask)
        return attention.out(answer.transpose(1, 2).flatten(2))
