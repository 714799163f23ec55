"""Where a flow between modalities starts: a normal law over the target's shape, encoded from the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from clarkia.networks.conditioning import Conditions
from clarkia.networks.transformer import TransformerBlock
from clarkia.random import Noise, randn


@dataclass(frozen=True, eq=False)
class SourceCode:
    """The law ``N(mean, exp(log_var))`` of n codes.

    Attributes:
        mean: ``(n, ...)``, the target's shape.
        log_var: Of the same shape.
    """

    mean: Float[Tensor, "n ..."]
    log_var: Float[Tensor, "n ..."]

    def sample(self, generator: Noise = None) -> Float[Tensor, "n ..."]:
        """A draw a row, ``mean + exp(log_var / 2) eps``."""
        eps = randn(self.mean.shape, generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + (0.5 * self.log_var).exp() * eps

    def divergence(self) -> Float[Tensor, " n"]:
        """``KL(N(mean, var) || N(0, 1))`` in nats a number of the code."""
        return 0.5 * (self.mean**2 + self.log_var.exp() - 1 - self.log_var).flatten(1).mean(1)

    def published_divergence(self) -> Float[Tensor, " n"]:
        """The released variant, ``(0.3 mean)^6`` in the place of ``mean^2``: means within 3 are left almost free."""
        return 0.5 * ((0.3 * self.mean) ** 6 + self.log_var.exp() - 1 - self.log_var).flatten(1).mean(1)


class VariationalEncoder(nn.Module):
    """From source features to a `SourceCode` of the target's shape.

    Args:
        trunk: A network from whatever describes the source to features ``(n, width)``.
        width: Their number.
        shape: Shape of one target.
        log_var: Where the log-variance starts; the mean's weights are those of a linear layer of unit output.

    Source: Flowing from Words to Pixels: A Framework for Cross-Modality Evolution (2024).
    """

    def __init__(self, trunk: nn.Module, width: int, shape: Sequence[int], *, log_var: float = 0.0) -> None:
        super().__init__()
        self.trunk, self.shape = trunk, tuple(shape)
        self.out = nn.Linear(width, 2 * prod(self.shape))
        nn.init.normal_(self.out.weight, std=width**-0.5)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.weight[prod(self.shape) :] = 0
            self.out.bias[prod(self.shape) :] = log_var

    def forward(self, source: Any) -> SourceCode:
        """The law of the codes of n sources."""
        mean, log_var = self.out(self.trunk(source)).chunk(2, dim=1)
        # exp(-10) and exp(4) are beyond any use; a variance that overflows would end the run.
        return SourceCode(mean.unflatten(1, self.shape), log_var.clamp(-10, 4).unflatten(1, self.shape))


class TextTrunk(nn.Module):
    """Features of a text: transformer blocks over its words, fewer channels a word, all words side by side.

    Args:
        num_words: Vocabulary; ids from 0 on.
        max_words: Length that all texts are padded to.
        width: Features of a word within.
        depth: Blocks; published 11 of width 1024.
        heads: Attention heads.
        channels: Features of a word at the end.

    Attributes:
        features: Number of features of a text, ``max_words channels``.

    Source: Flowing from Words to Pixels: A Framework for Cross-Modality Evolution (2024).
    """

    def __init__(
        self, num_words: int, max_words: int, *, width: int = 128, depth: int = 2, heads: int = 4, channels: int = 32
    ) -> None:
        super().__init__()
        spec = Conditions(token_classes=num_words, max_tokens=max_words)
        self.words = spec.embedding(width, std=1.0)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, modulated=False) for _ in range(depth))
        self.norm, self.reduce = nn.LayerNorm(width), nn.Linear(width, channels)
        self.max_words, self.features = max_words, max_words * channels

    def forward(self, source: dict[str, Int[Tensor, "n m"] | Bool[Tensor, "n m"]]) -> Float[Tensor, "n features"]:
        """The features of n texts, given as "tokens" and, where some are padding, "mask"; all else is passed over."""
        given = {name: source[name] for name in ("tokens", "mask") if name in source}
        embedded = self.words(given, len(given["tokens"]))
        h = embedded.tokens
        assert h is not None
        for block in self.blocks:
            h = block(h, mask=embedded.mask)
        h = self.reduce(self.norm(h))
        if embedded.mask is not None:
            h = h.masked_fill(~embedded.mask.unsqueeze(-1), 0.0)
        return F.pad(h, (0, 0, 0, self.max_words - h.shape[1])).flatten(1)


# ------------------------------------------------------------------------------------------- arithmetic on codes


def standardised(code: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Each code with mean 0 and deviation 1 over its entries, which sums of codes have lost."""
    axes = tuple(range(1, code.ndim))
    std = code.std(axes, correction=0, keepdim=True)
    return (code - code.mean(axes, keepdim=True)) / torch.where(std > 0, std, 1.0)


def analogy(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``a + b - c``, standardised: what is to a as b is to c."""
    return standardised(a + b - c)


def interpolated(a: Float[Tensor, "n ..."], b: Float[Tensor, "n ..."], share: float) -> Float[Tensor, "n ..."]:
    """The code at a share of the way from a to b, in a straight line."""
    return torch.lerp(a, b, share)
