"""How large a network is: parameters, and multiply-adds of a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def num_parameters(module: nn.Module, *, trainable: bool | None = None) -> int:
    """Numbers in the parameters of a module, each shared one counted once.

    Args:
        module: Any module, on any device, ``meta`` included.
        trainable: Whether to count those only that are trained (True) or frozen (False); None for all.
    """
    chosen = (p for p in module.parameters() if trainable is None or p.requires_grad == trainable)
    return sum(parameter.numel() for parameter in chosen)


def flops(module: nn.Module, *inputs: Any) -> int:
    """Multiply-adds of a forward pass in matrix products, convolutions and attention.

    Nothing is computed: the pass runs on shapes alone.

    Args:
        module: Any module.
        inputs: Its arguments, tensors, dicts of tensors or None; divide the result by their rows for one row.

    Returns:
        The count; a product and a sum are one.
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: value.detach().to("meta") for name, value in state.items()}
    # One kernel for all shapes: the count sees the two products of attention whatever the device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        functional_call(module, shapes, tuple(_meta(value) for value in inputs))
    return counter.get_total_flops() // 2


def _meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    return {name: _meta(item) for name, item in value.items()} if isinstance(value, dict) else value
