"""A transformer over sequences of tokens: bidirectional for masked diffusion, causal for its autoregressive twin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.networks.attention import check_heads, rotary
from clarkia.networks.checkpointing import run
from clarkia.networks.conditioning import NO_CONDITIONS, Condition, Conditions
from clarkia.networks.embeddings import NoiseEmbedding, row_level
from clarkia.networks.transformer import KeyValueCache, TransformerBlock, modulate, modulation


class TokenTransformer(nn.Module):
    """Logits of the clean classes of each token from the noisy ones.

    Token embedding with a row for the mask, rotary positions, pre-norm blocks, an output layer that starts at zero.
    Masked diffusion needs no time: what the mask says is all there is to know, and without it a cached answer stays
    right until a token changes. Sequences shorter than ``length`` are fine.

    Args:
        num_classes: Clean classes K; value K is the mask.
        length: Longest sequence.
        width: Features of a token.
        depth: Number of blocks.
        heads: Attention heads; divides the width.
        time_conditioning: Whether the noise level modulates the blocks, as other processes than masked ones need.
        causal: Whether a token sees itself and those before it alone; see `Autoregressive`. Then without time.
        anchored: Whether a learned token stands before a sequence that is not causal. Rotary positions are relative:
            without it all masked tokens of an unknown sequence are one, and its beginning cannot be told.
        dropout: Share of the features of each branch dropped while training.
        conditions: What the network can be told. Labels and a vector modulate the blocks, tokens stand before the
            sequence (not where it is causal: there they are a prefix).
        checkpoint: Whether a backward pass recomputes each block instead of keeping its activations.

    Raises:
        ValueError: Sizes below one, a width that the heads do not divide, or a causal network with time or tokens.

    Source: Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024); with
    time, Simple and Effective Masked Diffusion Language Models (2024). The published small size is width 768, depth 12,
    12 heads, dropout 0.02.
    """

    def __init__(
        self,
        num_classes: int,
        length: int,
        *,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        time_conditioning: bool = False,
        causal: bool = False,
        anchored: bool = True,
        dropout: float = 0.0,
        conditions: Conditions = NO_CONDITIONS,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or length < 1:
            raise ValueError(f"num_classes, length: expected positive numbers, found {num_classes} and {length}.")
        if causal and (time_conditioning or conditions.has_tokens):
            raise ValueError("causal: expected neither time_conditioning nor tokens as a condition.")
        self.num_classes, self.length, self.causal, self.checkpoint = num_classes, length, causal, checkpoint
        self.head_size = width // check_heads(width, heads)
        modulated = time_conditioning or conditions.has_vector
        self.embedding = nn.Embedding(num_classes + 1, width)
        # Of the size of what the blocks add: tokens begun smaller are drowned for the first hundreds of steps.
        nn.init.normal_(self.embedding.weight, std=1.0)
        self.time = NoiseEmbedding(width) if time_conditioning else None
        self.condition = conditions.embedding(width, std=1.0)
        self.anchor = nn.Parameter(torch.randn(width)) if anchored and not causal else None
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, modulated=modulated, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=not modulated, eps=1e-6)
        self.modulation = modulation(width, 2) if modulated else None
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def time_independent(self) -> bool:
        """Whether the noise level is not looked at, so that answers may be cached."""
        return self.time is None

    def forward(
        self, x: Int[Tensor, "n l"], noise: Tensor | None = None, condition: Condition | None = None
    ) -> Float[Tensor, "n l k"]:
        """Logits of the clean classes.

        Args:
            x: Classes, the mask being ``num_classes``; at most ``length`` of them.
            noise: Time of each row ``(n,)`` or of each token ``(n, l)``; may be None where it is not looked at.
            condition: See `Conditions`; None where nothing is given.

        Raises:
            ValueError: A sequence that is too long, no noise where it is needed, or an undeclared condition.
        """
        if x.ndim != 2 or x.shape[1] > self.length:
            raise ValueError(f"x: expected shape (n, up to {self.length}), found {tuple(x.shape)}.")
        return self.head(self.hidden(self.embedding(x), noise, condition))

    def hidden(
        self,
        h: Float[Tensor, "n l width"],
        noise: Tensor | None = None,
        condition: Condition | None = None,
        caches: Sequence[KeyValueCache] | None = None,
    ) -> Float[Tensor, "n l width"]:
        """The last normalised features of embedded tokens.

        Args:
            h: Embedded tokens.
            noise: As in `forward`.
            condition: As in `forward`.
            caches: Of a causal network, one a block: ``h`` then continues the tokens that they hold.
        """
        rows, length = h.shape[:2]
        vector, prefix, real = self._ahead(condition, rows)
        ahead = 0 if prefix is None else prefix.shape[1]
        c = self._modulating(vector, noise, rows, ahead)
        start = caches[0].filled if caches else 0
        places = torch.arange(start, start + length, device=h.device)
        # Tokens ahead are placed backwards from the sequence, so that padding behind them moves none.
        places = torch.cat([-1 - torch.arange(ahead, device=h.device), places])
        angles = rotary(places, self.head_size)
        mask = None
        if prefix is not None:
            h = torch.cat([prefix.to(h.dtype), h], dim=1)
            mask = None if real is None else torch.cat([real, real.new_ones(rows, length)], dim=1)
        if caches is not None:
            for block, cache in zip(self.blocks, caches, strict=True):
                h = block(h, c, None, angles, cache)
        else:
            if self.causal:
                mask = torch.ones(1, length, length, dtype=torch.bool, device=h.device).tril()
            for block in self.blocks:
                h = run(block, h, c, mask, angles, checkpointed=self.checkpoint)
        parts = (None, None) if self.modulation is None else self.modulation(c).chunk(2, dim=-1)
        return modulate(self.norm(h), *parts)[:, ahead:]

    def _ahead(self, condition: Condition | None, rows: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What is given as a vector, and as tokens before the sequence with those of them that are real."""
        vector, prefix, real = self.condition(condition, rows)
        if self.anchor is None:
            return vector, prefix, real
        anchor = self.anchor.expand(rows, 1, -1)
        real = None if real is None else torch.cat([real.new_ones(rows, 1), real], dim=1)
        return vector, anchor if prefix is None else torch.cat([anchor, prefix], dim=1), real

    def _modulating(self, vector: Tensor, noise: Tensor | None, rows: int, ahead: int) -> Tensor | None:
        """What modulates the tokens, ``(n, 1, width)`` or one a token; tokens ahead are at the level of the row."""
        if self.modulation is None:
            return None
        c = vector.unsqueeze(1)
        if self.time is None:
            return c
        if noise is None:
            raise ValueError("noise: expected the time of each row or token, found None.")
        if noise.ndim > 1 and ahead:
            noise = torch.cat([row_level(noise, rows)[:, None].expand(-1, ahead), noise], dim=1)
        level = noise.to(c.dtype).reshape(rows, -1)
        return c + self.time(level.flatten()).unflatten(0, level.shape)
