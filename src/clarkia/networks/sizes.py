"""Networks of equal size: the width that meets a number of parameters, and what a block costs by formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from clarkia.networks.counts import num_parameters

Network = TypeVar("Network", bound=nn.Module)


def matched(parameters: float, build: Callable[[int], Network], *, multiple: int = 16, largest: int = 16384) -> Network:
    """The network whose number of parameters is nearest to a target, among the widths a multiple allows.

    Candidates are built without memory; only the answer is built in full.

    Args:
        parameters: The target.
        build: Makes a network of a width, and larger ones of larger widths.
        multiple: Widths tried are its multiples; a small one meets the target more closely.
        largest: Largest width tried.

    Raises:
        ValueError: A target beyond the largest width.

    Source: Efficient Scaling of Diffusion Transformers for Text-to-Image Generation (2024).
    """

    def size(steps: int) -> int:
        with torch.device("meta"):
            return num_parameters(build(steps * multiple))

    low, high = 1, 1
    while size(high) < parameters:
        low, high = high, 2 * high
        if high * multiple > 2 * largest:
            raise ValueError(f"parameters: expected at most those of width {largest}, found {parameters:g}.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    best = min((low, high), key=lambda steps: abs(size(steps) - parameters))
    return build(best * multiple)


def uvit_matrices(width: int, depth: int, *, skips: bool = True) -> int:
    """Entries of the matrices in the blocks of a `UViT`: 12 d^2 a block and 2 d^2 a skip.

    Args:
        width: d.
        depth: Blocks beside the one in the middle.
        skips: Whether the last half reads the first.
    """
    return (12 * (depth + 1) + (depth if skips else 0)) * width**2


def dit_matrices(width: int, depth: int, *, cross: bool = False, shared: bool = False) -> int:
    """Entries of the matrices in the blocks of a `DiT`: 12 d^2, 6 d^2 for its modulation, 4 d^2 for cross-attention.

    Args:
        width: d.
        depth: Number of blocks.
        cross: Whether blocks have cross-attention.
        shared: Whether one modulation serves all blocks; it stands outside them and is not counted.
    """
    return depth * (12 + (0 if shared else 6) + (4 if cross else 0)) * width**2


def uvit_multiply_adds(width: int, depth: int, patches: int, others: int = 1, *, skips: bool = True) -> int:
    """Multiply-adds of an image in the blocks of a `UViT`: 12 n d^2 + 2 n^2 d a block and 2 n d^2 a skip.

    Args:
        width: d.
        depth: Blocks beside the one in the middle.
        patches: Patches of an image.
        others: Tokens beside them, for the noise level, labels and context; n is the sum.
        skips: Whether the last half reads the first.
    """
    n, d = patches + others, width
    return (depth + 1) * (12 * n * d**2 + 2 * n**2 * d) + (depth * n * d**2 if skips else 0)


def dit_multiply_adds(width: int, depth: int, patches: int, context: int = 0, *, shared: bool = False) -> int:
    """Multiply-adds of an image in the blocks of a `DiT`.

    A block has 12 n d^2 + 2 n^2 d, 6 d^2 for its modulation and, with cross-attention to m tokens,
    2 n d^2 + 2 m d^2 + 2 n m d.

    Args:
        width: d.
        depth: Number of blocks.
        patches: n.
        context: m; 0 for no cross-attention.
        shared: Whether one modulation serves all blocks; it stands outside them and is not counted.
    """
    n, m, d = patches, context, width
    block = 12 * n * d**2 + 2 * n**2 * d + (0 if shared else 6 * d**2)
    cross = 2 * n * d**2 + 2 * m * d**2 + 2 * n * m * d if m else 0
    return depth * (block + cross)
