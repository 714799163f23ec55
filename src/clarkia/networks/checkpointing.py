"""Memory for time: keep a block's inputs alone and compute what lies inside it again on the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(block: nn.Module, *inputs: Any, checkpointed: bool) -> Any:
    """The block's outputs; where checkpointed and gradients are wanted, its activations are not kept.

    Gradients, dropout included, are those of the plain block.

    Args:
        block: Any block.
        inputs: Its inputs.
        checkpointed: Whether to save memory.

    Source: Training Deep Nets with Sublinear Memory Cost (2016).
    """
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
