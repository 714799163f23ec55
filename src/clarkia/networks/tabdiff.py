"""The network of TabDiff: one small token a column, two tiny transformers, a wide MLP between them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.spaces import Categorical, Continuous, Mixed


class TabDiffNet(nn.Module):
    """Column tokens -> 2-layer transformer -> MLP on the flattened row -> 2-layer transformer -> outputs.

    Each token also carries the noise level of its own cell, which the published network lacks: with it the same
    network answers queries in which some cells are observed.

    Args:
        space: the mixed space; continuous blocks of shape (d,), categorical blocks of shape (m,).
        token_width: width of a column's token.
        width: width of the MLP's input and of the time embedding; its hidden layers are twice as wide.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024).
    """

    def __init__(self, space: Mixed, *, token_width: int = 4, width: int = 1024):
        super().__init__()
        self.sizes = {name: math.prod(block.shape) for name, block in space.blocks.items()}
        cells = sum(self.sizes.values())
        self.tokens_in = nn.ModuleDict({name: _tokens_in(block, token_width) for name, block in space.blocks.items()})
        self.encoder = nn.Sequential(*(_TinyTransformerLayer(token_width, first=i == 0) for i in range(2)))
        self.project = nn.Linear(cells * token_width, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.mlp = nn.Sequential(
            *(nn.Linear(width, 2 * width), nn.SiLU()),
            *(nn.Linear(2 * width, 2 * width), nn.SiLU()),
            *(nn.Linear(2 * width, width), nn.SiLU()),
            nn.Linear(width, cells * token_width),
        )
        self.decoder = nn.Sequential(*(_TinyTransformerLayer(token_width, first=i == 0) for i in range(2)))
        self.heads = nn.ModuleDict({name: _tokens_out(block, token_width) for name, block in space.blocks.items()})

    def forward(self, x: dict[str, Tensor], noise: dict[str, Tensor], condition: None = None) -> dict[str, Tensor]:
        """Raw outputs of every block.

        Args:
            x: continuous blocks (n, d) scaled to unit variance; categorical blocks (n, m) of classes, mask = K.
            noise: for continuous blocks c_noise, (n,) or (n, d), lowest where a cell is observed; for categorical
                blocks the time, (n,) or (n, m).
            condition: none; a condition is a block like any other.

        Returns:
            For continuous blocks (n, d); for categorical blocks logits (n, m, K_max).
        """
        tokens = torch.cat([embed(x[name], noise[name]) for name, embed in self.tokens_in.items()], dim=1)
        tokens = self.encoder(tokens)
        level = _sinusoids(self._row_noise(noise), self.project.out_features)
        h = self.project(tokens.flatten(1)) + self.time(level)
        tokens = self.decoder(self.mlp(h).unflatten(1, tokens.shape[1:]))
        parts = torch.split(tokens, list(self.sizes.values()), dim=1)
        return {name: head(part) for (name, head), part in zip(self.heads.items(), parts, strict=True)}

    def _row_noise(self, noise: dict[str, Tensor]) -> Float[Tensor, " n"]:
        """One noise level a row, log sigma / 4 of its noisiest cell on the reference schedule (rho = 7)."""
        highest = {name: level.reshape(len(level), -1).amax(1) for name, level in noise.items()}
        times = [highest[name] for name, embed in self.tokens_in.items() if isinstance(embed, _CategoricalTokens)]
        if times:
            return _reference_noise(torch.stack(times).amax(0))
        return torch.stack(list(highest.values())).amax(0)


class _TinyTransformerLayer(nn.Module):
    """Pre-norm attention with one head and a ReLU feed-forward; the first layer's attention reads unnormed tokens."""

    def __init__(self, width: int, *, first: bool, hidden: int = 128):
        super().__init__()
        self.norm = nn.Identity() if first else nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, tokens: Float[Tensor, "n cells width"]) -> Float[Tensor, "n cells width"]:
        query, key, value = self.query_key_value(self.norm(tokens)).chunk(3, dim=-1)
        tokens = tokens + F.scaled_dot_product_attention(query, key, value)
        return tokens + self.feed_forward(tokens)


class _ContinuousTokens(nn.Module):
    def __init__(self, cells: int, width: int):
        super().__init__()
        self.value = _uniform_parameter(cells, width)
        self.noise = nn.Parameter(torch.zeros(cells, width))
        self.bias = _uniform_parameter(cells, width)

    def forward(self, x: Float[Tensor, "n d"], noise: Tensor) -> Float[Tensor, "n d width"]:
        noise = noise.reshape(len(x), -1).expand_as(x)
        return x[..., None] * self.value + noise[..., None] * self.noise + self.bias


class _CategoricalTokens(nn.Module):
    offsets: Tensor

    def __init__(self, space: Categorical, width: int):
        super().__init__()
        rows = torch.tensor(space.counts) + 1
        self.register_buffer("offsets", torch.cumsum(rows, 0) - rows, persistent=False)
        self.table = _uniform_parameter(int(rows.sum()), width)
        self.bias = _uniform_parameter(len(rows), width)

    def forward(self, x: Int[Tensor, "n m"], noise: Tensor) -> Float[Tensor, "n m width"]:
        return F.embedding(x + self.offsets, self.table) + self.bias


class _ContinuousHead(nn.Module):
    def __init__(self, cells: int, width: int):
        super().__init__()
        self.readout = _uniform_parameter(cells, width)

    def forward(self, tokens: Float[Tensor, "n d width"]) -> Float[Tensor, "n d"]:
        return (tokens * self.readout).sum(-1)


class _CategoricalHead(nn.Module):
    """One linear map a position, all as one batched product over the padded class axis."""

    def __init__(self, space: Categorical, width: int):
        super().__init__()
        positions, widest = len(space.counts), space.max_classes
        bound = 1.0 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(positions, width, widest).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(positions, widest))

    def forward(self, tokens: Float[Tensor, "n m width"]) -> Float[Tensor, "n m k"]:
        return torch.einsum("nmw,mwk->nmk", tokens, self.weight) + self.bias


def _uniform_parameter(rows: int, width: int) -> nn.Parameter:
    # Kaiming-uniform with a = sqrt 5, the published initialisation, is uniform within 1/sqrt(fan-in).
    bound = 1.0 / math.sqrt(width)
    return nn.Parameter(torch.empty(rows, width).uniform_(-bound, bound))


def _tokens_in(block: Continuous | Categorical, width: int) -> nn.Module:
    if isinstance(block, Continuous):
        return _ContinuousTokens(math.prod(block.shape), width)
    return _CategoricalTokens(block, width)


def _tokens_out(block: Continuous | Categorical, width: int) -> nn.Module:
    if isinstance(block, Continuous):
        return _ContinuousHead(math.prod(block.shape), width)
    return _CategoricalHead(block, width)


def _reference_noise(time: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    return 7.0 * torch.log(low + time * (high - low)) / 4.0


def _sinusoids(values: Float[Tensor, " n"], width: int) -> Float[Tensor, "n width"]:
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(width // 2, device=values.device) / (width // 2))
    angles = values[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
