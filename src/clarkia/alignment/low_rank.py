"""Low-rank adapters: what is learned of a weight is a product of two thin matrices beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """A weight plus ``B A``, zero at the start; axes after the first count as one.

    Args:
        weight: The weight; fixes shapes, dtype and device.
        rank: Rows of A; at most the smaller side of the weight is used.

    Source: LoRA: Low-Rank Adaptation of Large Language Models (2021).
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.inward = nn.Parameter(torch.randn(rank, columns).to(weight) * columns**-0.5)
        self.outward = nn.Parameter(torch.zeros(rows, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        return weight + (self.outward @ self.inward).reshape(weight.shape)


def adapt(module: nn.Module, rank: int) -> int:
    """Freeze a module and give every linear and convolution layer in it an adapter, in place.

    Args:
        module: The module.
        rank: Of the adapters.

    Returns:
        The number of layers that have one.

    Raises:
        ValueError: A rank below 1, or a module without such layers.
    """
    if rank < 1:
        raise ValueError(f"rank: expected at least 1, found {rank}.")
    module.requires_grad_(False)
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    if not layers:
        raise ValueError("denoiser: expected linear or convolution layers to adapt, found none; correct it instead.")
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return len(layers)
