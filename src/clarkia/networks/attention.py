"""Attention: one function over queries, keys and values, rotary positions, and two modules around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


def attend(
    q: Float[Tensor, "n heads l size"],
    k: Float[Tensor, "n heads m size"],
    v: Float[Tensor, "n heads m size"],
    mask: Bool[Tensor, "n m"] | Bool[Tensor, "n l m"] | None = None,
) -> Float[Tensor, "n heads l size"]:
    """Mean of the values, weighted by the softmax of ``q . k / sqrt(size)``.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: True where a key may be looked at: ``(n, m)`` for all queries, or ``(n, l, m)``; a key that may not has
            exactly no influence. Every query needs one that may.
    """
    if mask is not None:
        mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def rotary(positions: Tensor, size: int, base: float = 1e4) -> Float[Tensor, "... half"]:
    """Angles by which the pairs of a head's features are rotated.

    Args:
        positions: Places in a sequence, ``(l,)`` or ``(n, l)``. For two axes, concatenate the angles of half the size
            for each.
        size: Even number of features of a head.
        base: The slowest pair turns about `base` times slower than the fastest, by one radian a place.

    Source: RoFormer: Enhanced Transformer with Rotary Position Embedding (2021).
    """
    if size % 2:
        raise ValueError(f"size: expected an even number, found {size}.")
    exponents = torch.arange(size // 2, device=positions.device) / (size // 2)
    return positions.unsqueeze(-1).float() * base**-exponents


def rotate(x: Float[Tensor, "n heads l size"], angles: Tensor) -> Float[Tensor, "n heads l size"]:
    """Rotate queries or keys; the product of two of them then depends on the difference of their angles alone.

    Args:
        x: Queries or keys.
        angles: ``(l, size / 2)`` or ``(n, l, size / 2)``, from `rotary`.
    """
    angles = angles if angles.ndim == 2 else angles.unsqueeze(1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class SelfAttention(nn.Module):
    """Attention of tokens to each other.

    Args:
        width: Features of a token.
        heads: Number of heads; divides the width.
        bias: Whether queries, keys and values have a bias.
        qk_norm: Whether queries and keys are scaled to unit root mean square, with a learned gain for each feature of
            a head, which holds the logits of deep networks in bounds.

    Raises:
        ValueError: A width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.norm = QueryKeyNorm(width // heads) if qk_norm else None
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "n l width"], mask: Tensor | None = None, angles: Tensor | None = None
    ) -> Float[Tensor, "n l width"]:
        """Each token's answer.

        Args:
            x: Tokens.
            mask: bool ``(n, l)``, or ``(n, l, l)`` by query and key; True where a token may be looked at.
            angles: Rotary angles, ``(l, size / 2)`` or ``(n, l, size / 2)``.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if self.norm is not None:
            q, k = self.norm(q, k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return self.out(attend(q.to(v.dtype), k.to(v.dtype), v, mask).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of tokens to those of a context.

    Args:
        width: Features of a token.
        heads: Number of heads; divides the width.
        context_width: Features of a context token; None for `width`.
        qk_norm: As in `SelfAttention`.

    Raises:
        ValueError: A width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int, *, context_width: int | None = None, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context_width or width, 2 * width)
        self.norm = QueryKeyNorm(width // heads) if qk_norm else None
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "n l width"], context: Float[Tensor, "n m context"], mask: Tensor | None = None
    ) -> Float[Tensor, "n l width"]:
        """Each token's answer.

        Args:
            x: Tokens.
            context: Tokens they look at.
            mask: bool ``(n, m)``, True where a context token is real.
        """
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if self.norm is not None:
            q, k = self.norm(q, k)
        return self.out(attend(q.to(v.dtype), k.to(v.dtype), v, mask).transpose(1, 2).flatten(2))


class QueryKeyNorm(nn.Module):
    """Queries and keys of unit root mean square times a learned gain for each feature of a head."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.q, self.k = nn.RMSNorm(size, eps=1e-6), nn.RMSNorm(size, eps=1e-6)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Both, normalised."""
        return self.q(q), self.k(k)


def num_heads(width: int, head_size: int = 64) -> int:
    """How many heads: as many of `head_size` features as the width has, but four at least, and a divisor of the width.

    A head looks at one place at a time: one alone cannot read a word and the word that says what colour it is.
    """
    most = max(min(4, width), width // head_size)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def check_heads(width: int, heads: int) -> int:
    """The number of heads, if it divides the width; else ``ValueError``."""
    if heads < 1 or width % heads:
        raise ValueError(f"heads: expected a divisor of the width {width}, found {heads}.")
    return heads
