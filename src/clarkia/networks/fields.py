"""A transformer over the fields of a mixed space: one token a cell, whatever its kind."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.networks.attention import check_heads
from clarkia.networks.checkpointing import run
from clarkia.networks.conditioning import NO_CONDITIONS, Condition, Conditions
from clarkia.networks.embeddings import NoiseEmbedding, row_level
from clarkia.networks.transformer import TransformerBlock, modulate, modulation
from clarkia.spaces import Categorical, Continuous, Mixed


class FieldTransformer(nn.Module):
    """A token for each cell, blocks in which all cells look at each other, an answer from each token.

    The noise level of the row, the highest of each block's cells, modulates the blocks; each token carries the level of
    its own cell, so that an observed cell can be told from a noisy one. A category's token is a row of its own for each
    class and for the mask; no logit is ever given to the mask.

    Args:
        space: Continuous blocks of shape (d,), categorical blocks of shape (m,).
        width: Features of a token.
        depth: Number of blocks.
        heads: Attention heads; divides the width.
        dropout: Share of the features of each branch dropped while training.
        conditions: What the network can be told beside the cells, which are conditions themselves.
        checkpoint: Whether a backward pass recomputes each block instead of keeping its activations.

    Raises:
        ValueError: A width that the heads do not divide, or a block of another shape.

    Source: Scalable Diffusion Models with Transformers (2023) over the cells of a row, as in Revisiting Deep Learning
    Models for Tabular Data (2021).
    """

    def __init__(
        self,
        space: Mixed,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        conditions: Conditions = NO_CONDITIONS,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        for name, block in space.blocks.items():
            if len(block.shape) != 1:
                raise ValueError(f"space: expected blocks of shape (cells,), found {block.shape} of {name!r}.")
        self.cells = [math.prod(block.shape) for block in space.blocks.values()]
        self.checkpoint = checkpoint
        parts = space.blocks.items()
        self.tokens = nn.ModuleDict({name: _tokens(block, width) for name, block in parts})
        self.levels = nn.ModuleDict({name: NoiseEmbedding(width) for name in space.blocks})
        self.condition = conditions.embedding(width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, modulated=True, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = modulation(width, 2)
        self.heads = nn.ModuleDict({name: _head(block, width) for name, block in parts})

    def forward(
        self, x: dict[str, Tensor], noise: dict[str, Tensor], condition: Condition | None = None
    ) -> dict[str, Tensor]:
        """Raw outputs of every block.

        Args:
            x: Continuous blocks (n, d) scaled to unit variance; categorical blocks (n, m) of classes, mask = K.
            noise: For continuous blocks c_noise, for categorical ones the time; (n,), or of the block's shape with the
                lowest level where a cell is observed.
            condition: See `Conditions`; None where nothing is given.

        Returns:
            For continuous blocks (n, d); for categorical blocks logits (n, m, K_max).
        """
        h = torch.cat([embed(x[name], noise[name]) for name, embed in self.tokens.items()], dim=1)
        rows, cells = h.shape[:2]
        c, told, real = self.condition(condition, rows)
        for name, embed in self.levels.items():
            c = c + embed(row_level(noise[name], rows).to(h.dtype))
        mask = None
        if told is not None:
            h = torch.cat([h, told.to(h.dtype)], dim=1)
            mask = None if real is None else torch.cat([real.new_ones(rows, cells), real], dim=1)
        c = c.unsqueeze(1)
        for block in self.blocks:
            h = run(block, h, c, mask, checkpointed=self.checkpoint)
        h = modulate(self.norm(h[:, :cells]), *self.modulation(c).chunk(2, dim=-1))
        return {name: self.heads[name](part) for name, part in zip(self.tokens, h.split(self.cells, 1), strict=True)}


class _NumberTokens(nn.Module):
    """Linear in a number and in functions of its noise level, with weights of each column's own."""

    def __init__(self, cells: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cells, 4, width) * torch.tensor([1.0, 0.3, 0.3, 1.0])[:, None])
        self.column = nn.Parameter(torch.randn(cells, width))

    def forward(self, x: Float[Tensor, "n d"], noise: Tensor) -> Float[Tensor, "n d width"]:
        noise = noise.to(x.dtype).reshape(len(x), -1).expand_as(x)
        # The bump separates the levels where a cell is half known, around sigma = 1, from either end.
        features = torch.stack([x, noise, torch.exp(-4.0 * noise.square()), x * torch.sigmoid(-4.0 * noise)], dim=-1)
        return torch.einsum("ndf,dfw->ndw", features, self.weight) + self.column


class _CategoryTokens(nn.Module):
    """A row for each class of each position and for its mask, plus its time times a direction of the position."""

    offsets: Tensor

    def __init__(self, space: Categorical, width: int) -> None:
        super().__init__()
        rows = torch.tensor(space.counts) + 1
        self.register_buffer("offsets", torch.cumsum(rows, 0) - rows, persistent=False)
        self.table = nn.Embedding(int(rows.sum()), width)
        self.time = nn.Parameter(0.3 * torch.randn(len(rows), width))
        self.column = nn.Parameter(torch.randn(len(rows), width))

    def forward(self, x: Int[Tensor, "n m"], noise: Tensor) -> Float[Tensor, "n m width"]:
        time = noise.to(self.time.dtype).reshape(len(x), -1).expand(x.shape)
        return self.table(x + self.offsets) + time.unsqueeze(-1) * self.time + self.column


class _NumberHead(nn.Module):
    """One number from each token, by weights of its column."""

    def __init__(self, cells: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(cells, width))
        self.bias = nn.Parameter(torch.zeros(cells))

    def forward(self, h: Float[Tensor, "n d width"]) -> Float[Tensor, "n d"]:
        return torch.einsum("ndw,dw->nd", h, self.weight) + self.bias


class _CategoryHead(nn.Module):
    """Logits from each token, by weights of its position; zero where a position has no such class."""

    exists: Tensor

    def __init__(self, space: Categorical, width: int) -> None:
        super().__init__()
        counts = torch.tensor(space.counts)
        self.register_buffer("exists", torch.arange(space.max_classes) < counts[:, None], persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(counts), space.max_classes, width))
        self.bias = nn.Parameter(torch.zeros(len(counts), space.max_classes))

    def forward(self, h: Float[Tensor, "n m width"]) -> Float[Tensor, "n m k"]:
        logits = torch.einsum("nmw,mkw->nmk", h, self.weight) + self.bias
        return torch.where(self.exists, logits, 0.0)


def _tokens(block: Continuous | Categorical, width: int) -> nn.Module:
    if isinstance(block, Continuous):
        return _NumberTokens(math.prod(block.shape), width)
    return _CategoryTokens(block, width)


def _head(block: Continuous | Categorical, width: int) -> nn.Module:
    if isinstance(block, Continuous):
        return _NumberHead(math.prod(block.shape), width)
    return _CategoryHead(block, width)
