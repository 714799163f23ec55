"""A normalising flow of affine coupling blocks, conditioned on positions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

CLAMP = 1.9


class CouplingFlow(nn.Module):
    """Affine coupling blocks with an orthogonal mixing after each; the identity up to a rotation before training.

    Half of the columns tell how the other half is scaled and shifted; scales stay in ``exp(+-clamp)``. The mixings are
    random and fixed.

    Args:
        width: Number d of columns, at least 2.
        condition: Width of what every row is conditioned on; 0 for nothing.
        blocks: Number of blocks.
        expansion: Hidden units as a multiple of the width.
        clamp: Largest absolute logarithm of a scale.
        seed: Seed of the mixings.

    Raises:
        ValueError: A width below 2.

    Source: Density estimation using Real NVP (2016); Glow: Generative Flow with Invertible 1x1 Convolutions (2018).
    """

    mixings: Tensor

    def __init__(
        self,
        width: int,
        *,
        condition: int = 0,
        blocks: int = 10,
        expansion: int = 2,
        clamp: float = CLAMP,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"width: expected at least 2 columns, found {width}.")
        self.width, self.clamp = width, clamp
        self.first = width // 2
        self.networks = nn.ModuleList(
            _subnet(self.first + condition, expansion * width, 2 * (width - self.first)) for _ in range(blocks)
        )
        noise = torch.randn(blocks, width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.register_buffer("mixings", torch.linalg.qr(noise).Q)

    def forward(
        self, x: Float[Tensor, "n d"], condition: Float[Tensor, "n c"] | None = None
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Latent rows ``(n, d)`` and the log-determinant of the map, ``(n,)``."""
        log_det = x.new_zeros(len(x))
        for network, mixing in zip(self.networks, self.mixings.to(x.dtype), strict=True):
            fixed, moved = x[:, : self.first], x[:, self.first :]
            log_scale, shift = self._coefficients(network, fixed, condition)
            x = torch.cat([fixed, moved * log_scale.exp() + shift], 1) @ mixing
            log_det = log_det + log_scale.sum(1)
        return x, log_det

    def inverse(self, z: Float[Tensor, "n d"], condition: Float[Tensor, "n c"] | None = None) -> Float[Tensor, "n d"]:
        """Rows ``(n, d)`` of latent rows."""
        for network, mixing in zip(reversed(self.networks), self.mixings.to(z.dtype).flip(0), strict=True):
            z = z @ mixing.T
            fixed, moved = z[:, : self.first], z[:, self.first :]
            log_scale, shift = self._coefficients(network, fixed, condition)
            z = torch.cat([fixed, (moved - shift) * (-log_scale).exp()], 1)
        return z

    def log_prob(
        self, x: Float[Tensor, "n d"], condition: Float[Tensor, "n c"] | None = None, *, mean: float = 0.0
    ) -> Float[Tensor, " n"]:
        """Log-density in nats, ``(n,)``, under the base ``N(mean 1, I)``, the same mean in every coordinate."""
        z, log_det = self(x, condition)
        return log_normal(z, mean) + log_det

    def log_probs(
        self, x: Float[Tensor, "n d"], condition: Float[Tensor, "n c"] | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Log-density of usual rows (base mean 0) and of unusual ones (base mean 1), nats per dimension, ``(n,)``."""
        z, log_det = self(x, condition)
        return (log_normal(z) + log_det) / self.width, (log_normal(z, 1.0) + log_det) / self.width

    def _coefficients(self, network: nn.Module, fixed: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = network(fixed if condition is None else torch.cat([fixed, condition], 1)).chunk(2, 1)
        return self.clamp * (2 / math.pi) * torch.atan(raw / self.clamp), shift


def log_normal(z: Float[Tensor, "n d"], mean: float = 0.0) -> Float[Tensor, " n"]:
    """Log-density of ``N(mean 1, I)`` at each row, nats ``(n,)``."""
    return -0.5 * (z - mean).square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def sinusoidal_positions(height: int, width: int, dimensions: int = 256) -> Float[Tensor, "positions c"]:
    """Sines and cosines of the row and of the column of every cell of a map, row by row, ``(height * width, c)``.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        dimensions: Length of the code, a multiple of 4: half for the row, half for the column.

    Raises:
        ValueError: A length that is no positive multiple of 4.

    Source: Attention Is All You Need (2017).
    """
    if dimensions < 4 or dimensions % 4:
        raise ValueError(f"dimensions: expected a positive multiple of 4, found {dimensions}.")
    frequencies = torch.exp(-math.log(1e4) * torch.arange(dimensions // 4) / (dimensions // 4))

    def waves(length: int) -> Tensor:
        angles = torch.arange(length)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)

    down = waves(height)[:, None].expand(-1, width, -1)
    across = waves(width)[None].expand(height, -1, -1)
    return torch.cat([down, across], 2).reshape(height * width, dimensions)


def _subnet(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)
