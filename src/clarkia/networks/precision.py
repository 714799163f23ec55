"""Run a network in bfloat16 where the processor multiplies faster in it."""

import torch
from torch import Tensor, nn

from clarkia.spaces import State, map_blocks


class Bfloat16(nn.Module):
    """A network under bfloat16 autocast: weights, inputs and outputs stay in float32.

    Args:
        network: called with the same arguments; returns a tensor, or a dict of them.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    @property
    def time_independent(self) -> bool:
        """Whether the network does not look at the noise level, so that answers may be cached."""
        return bool(getattr(self.network, "time_independent", False))

    def forward(self, *arguments) -> State:
        """The network's outputs, rounded to bfloat16 precision on the way and returned in float32."""
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            raw = self.network(*arguments)
        return map_blocks(Tensor.float, raw)


def bfloat16_is_fast() -> bool:
    """Whether the CPU has matrix instructions for bfloat16; without them the emulation is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
