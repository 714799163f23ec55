"""Grids of any number of axes as sequences of patches, and back; fixed positions on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.networks.embeddings import sinusoid


def grid_of(size: Sequence[int], patch: int) -> tuple[int, ...]:
    """Patches along each axis.

    Raises:
        ValueError: A size that the patch does not divide.
    """
    if patch < 1 or any(length < 1 or length % patch for length in size):
        raise ValueError(f"size: expected multiples of the patch {patch}, found {tuple(size)}.")
    return tuple(length // patch for length in size)


def patchify(x: Float[Tensor, "n c ..."], patch: int) -> Float[Tensor, "n l features"]:
    """A sequence of patches, each the numbers of one patch, channels first.

    Args:
        x: ``(n, channels, ...)`` with any number of axes behind the channels, each a multiple of the patch.
        patch: Side of a patch.
    """
    n, channels, *size = x.shape
    grid = grid_of(size, patch)
    axes = len(grid)
    cut = x.reshape(n, channels, *(number for length in grid for number in (length, patch)))
    order = (0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2))
    return cut.permute(order).reshape(n, prod(grid), channels * patch**axes)


def unpatchify(tokens: Float[Tensor, "n l features"], patch: int, size: Sequence[int]) -> Float[Tensor, "n c ..."]:
    """The grid that `patchify` cut, with as many channels as the tokens' features make.

    Args:
        tokens: One token a patch.
        patch: Side of a patch.
        size: Lengths of the axes behind the channels.
    """
    grid = grid_of(size, patch)
    axes = len(grid)
    channels = tokens.shape[-1] // patch**axes
    parts = tokens.reshape(len(tokens), *grid, channels, *[patch] * axes)
    order = (0, 1 + axes, *(place for axis in range(axes) for place in (1 + axis, 2 + axes + axis)))
    return parts.permute(order).reshape(len(tokens), channels, *size)


def coordinates(grid: Sequence[int]) -> Float[Tensor, "l axes"]:
    """Where each patch of a grid lies, in patches along each axis."""
    axes = torch.meshgrid(*(torch.arange(length, dtype=torch.float32) for length in grid), indexing="ij")
    return torch.stack([axis.flatten() for axis in axes], dim=-1)


def fixed_positions(grid: Sequence[int], width: int, trained: Sequence[int] | None = None) -> Float[Tensor, "l width"]:
    """Cosines and sines of the coordinates, an equal share of the width for each axis.

    Args:
        grid: Patches along each axis.
        width: Features; a multiple of twice the number of axes.
        trained: The grid a network was made for, where it is another; its range of coordinates is kept.

    Raises:
        ValueError: A width that the axes do not divide.

    Source: Scalable Diffusion Models with Transformers (2023).
    """
    if width % (2 * len(grid)):
        raise ValueError(f"width: expected a multiple of {2 * len(grid)} on {len(grid)} axes, found {width}.")
    stretch = torch.tensor([made / now for made, now in zip(trained or grid, grid, strict=True)])
    return sinusoid(coordinates(grid) * stretch, width // len(grid)).flatten(1)
