"""A residual MLP over the concatenated cells of a mixed space: the fast default on a CPU."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.spaces import Categorical, Continuous, Mixed


class ResidualMLP(nn.Module):
    """Embed every cell, add the embeddings, refine them by pre-norm residual blocks, read every cell out.

    Args:
        space: the mixed space; continuous blocks of shape (d,), categorical blocks of shape (m,).
        width: width of the residual stream.
        expansion: hidden units of a block as a multiple of `width`.
        depth: number of residual blocks.
        dropout: probability of dropping a hidden unit while training.
        ordered: by categorical block, how many classes of each position, its first ones, are in order (0 for none):
            neighbours among them start out alike and learn from each other.
    """

    def __init__(
        self,
        space: Mixed,
        *,
        width: int = 512,
        expansion: int = 2,
        depth: int = 3,
        dropout: float = 0.0,
        ordered: Mapping[str, Sequence[int]] | None = None,
    ):
        super().__init__()
        ordered = dict(ordered or {})
        positions = sum(math.prod(block.shape) for block in space.blocks.values())
        scale = 1.0 / math.sqrt(max(positions, 1))
        self.embeddings = nn.ModuleDict(
            {name: _cells_in(block, width, scale, ordered.get(name)) for name, block in space.blocks.items()}
        )
        self.blocks = nn.ModuleList(_ResidualBlock(width, expansion * width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict(
            {name: _cells_out(block, width, ordered.get(name)) for name, block in space.blocks.items()}
        )

    def forward(self, x: dict[str, Tensor], noise: dict[str, Tensor], condition: None = None) -> dict[str, Tensor]:
        """Raw outputs of every block.

        Args:
            x: continuous blocks (n, d) scaled to unit variance; categorical blocks (n, m) of classes, mask = K.
            noise: for continuous blocks c_noise, (n,) or (n, d), lowest where a cell is observed; categorical blocks
                need none, a cell is masked or it is not.
            condition: none; a condition is a block like any other.

        Returns:
            For continuous blocks (n, d); for categorical blocks logits (n, m, K_max).
        """
        h = sum(embed(x[name], noise[name]) for name, embed in self.embeddings.items())
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        return {name: head(h) for name, head in self.heads.items()}


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.down(self.dropout(F.silu(self.up(self.norm(h)))))


class _ContinuousIn(nn.Module):
    """Linear in the value and in three functions of its noise level, so that an observed cell can be told apart."""

    def __init__(self, cells: int, width: int):
        super().__init__()
        self.linear = nn.Linear(4 * cells, width)

    def forward(self, x: Float[Tensor, "n d"], noise: Tensor) -> Float[Tensor, "n width"]:
        noise = noise.reshape(len(x), -1).expand_as(x)
        # The bump separates the levels where a cell is half known, around sigma = 1, from either end.
        features = (x, noise, torch.exp(-4.0 * noise.square()), x * torch.sigmoid(-4.0 * noise))
        return self.linear(torch.cat(features, dim=-1))


class _SmoothRows(nn.Module):
    """A matrix of one row a class, in which the rows of ordered classes are smooth curves plus small corrections.

    An ordered position has the first cosines of its class's rank as a basis, weighted so that slow ones learn fastest;
    its free rows are scaled down, so that they learn what the curves cannot bend to.

    Args:
        counts: rows of each position.
        ordered: how many rows of each position, its first ones, are in order.
        width: columns.
        scale: standard deviation of the entries at the start.
    """

    FREE = 0.2
    COSINES = 16

    basis: Tensor
    share: Tensor

    def __init__(self, counts: Sequence[int], ordered: Sequence[int], width: int, scale: float):
        super().__init__()
        bases, share = [], []
        for count, length in zip(counts, ordered, strict=True):
            terms = min(self.COSINES, length)
            rank = (torch.arange(length) + 0.5)[:, None] / max(length, 1)
            order = torch.arange(terms)
            cosines = torch.cos(math.pi * rank * order) / (1.0 + 0.5 * order)
            bases.append(F.pad(cosines, (0, 0, 0, count - length)))
            share.append(torch.where(torch.arange(count) < length, self.FREE, 1.0))
        basis = torch.block_diag(*bases)
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("share", torch.cat(share)[:, None], persistent=False)
        self.free = nn.Parameter(scale * torch.randn(sum(counts), width))
        self.curves = nn.Parameter(scale * torch.randn(basis.shape[1], width))

    def forward(self) -> Float[Tensor, "rows width"]:
        return self.share * self.free + self.basis @ self.curves


class _CategoricalIn(nn.Module):
    """One embedding row for each class of each position and one for its mask; the rows of a point are summed."""

    offsets: Tensor

    def __init__(self, space: Categorical, width: int, scale: float, ordered: Sequence[int] | None):
        super().__init__()
        rows = torch.tensor(space.counts) + 1
        self.register_buffer("offsets", torch.cumsum(rows, 0) - rows, persistent=False)
        self.table = _SmoothRows(rows.tolist(), ordered or [0] * len(rows), width, scale)

    def forward(self, x: Int[Tensor, "n m"], noise: Tensor) -> Float[Tensor, "n width"]:
        return F.embedding_bag(x + self.offsets, self.table(), mode="sum")


class _CategoricalOut(nn.Module):
    """A linear head over the classes that exist, laid out as (n, m, K_max) with zeros where no class is."""

    places: Tensor

    def __init__(self, space: Categorical, width: int, ordered: Sequence[int] | None):
        super().__init__()
        counts = torch.tensor(space.counts)
        exists = torch.arange(space.max_classes) < counts[:, None]
        self.layout = tuple(exists.shape)
        self.register_buffer("places", exists.flatten().nonzero().flatten(), persistent=False)
        self.weight = _SmoothRows(space.counts, ordered or [0] * len(counts), width, 0.0)
        self.bias = nn.Parameter(torch.zeros(int(counts.sum())))

    def forward(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n m k"]:
        logits = F.linear(h, self.weight(), self.bias)
        padded = logits.new_zeros(len(h), self.layout[0] * self.layout[1])
        return padded.index_copy(1, self.places, logits).unflatten(1, self.layout)


def _cells_in(block: Continuous | Categorical, width: int, scale: float, ordered: Sequence[int] | None) -> nn.Module:
    if isinstance(block, Continuous):
        return _ContinuousIn(math.prod(block.shape), width)
    return _CategoricalIn(block, width, scale, ordered)


def _cells_out(block: Continuous | Categorical, width: int, ordered: Sequence[int] | None) -> nn.Module:
    if isinstance(block, Categorical):
        return _CategoricalOut(block, width, ordered)
    linear = nn.Linear(width, math.prod(block.shape))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
