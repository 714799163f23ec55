"""Gradients of a number a row with respect to numbers that are free to move."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Values = Callable[[dict[str, Tensor]], Float[Tensor, " n"]]
"""A number a row, of named blocks of floating point."""


def slopes(values: Values, blocks: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The gradient of each row's number with respect to each block; 0 for a block that it ignores.

    Args:
        values: The numbers.
        blocks: Where to take it, each ``(n, ...)``.
        name: Of what is differentiated, for the error.

    Raises:
        ValueError: The numbers are no differentiable function of the blocks.
    """
    with torch.enable_grad():
        leaves = {key: block.detach().requires_grad_() for key, block in blocks.items()}
        total = values(leaves).sum()
        if not total.requires_grad:
            raise ValueError(f"{name}: expected a function that torch can differentiate, found one that it cannot.")
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    pairs = zip(blocks.items(), found, strict=True)
    return {key: torch.zeros_like(block) if slope is None else slope for (key, block), slope in pairs}
