"""Run a network in bfloat16 where the processor multiplies faster in it."""

import torch
from torch import Tensor, nn


class Bfloat16(nn.Module):
    """A network under bfloat16 autocast: weights, inputs and outputs stay in float32.

    Args:
        network: called with the same arguments; returns a dict of tensors.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *arguments) -> dict[str, Tensor]:
        """The network's outputs, rounded to bfloat16 precision on the way and returned in float32."""
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            raw = self.network(*arguments)
        return {name: block.float() for name, block in raw.items()}


def bfloat16_is_fast() -> bool:
    """Whether the CPU has matrix instructions for bfloat16; without them the emulation is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
