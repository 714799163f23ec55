"""The product of processes, one a block of a mixed state."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from clarkia.processes.discrete import Discrete
from clarkia.processes.gaussian import Gaussian
from clarkia.processes.kernels import MixedKernel
from clarkia.processes.times import Time, block_time
from clarkia.random import Noise
from clarkia.spaces import State


class Mixed:
    """Each block of a mixed state corrupted by its own process, all independently given the times.

    A time is one tensor ``(n,)`` for all blocks, or a dict with one a block (each ``(n,)`` or the block's shape).

    Args:
        **blocks: The processes by block name; `from_blocks` takes a mapping.
    """

    def __init__(self, **blocks: Gaussian | Discrete) -> None:
        if not blocks:
            raise ValueError("blocks: expected at least one process, found none.")
        self.blocks: Mapping[str, Gaussian | Discrete] = MappingProxyType(dict(blocks))

    @classmethod
    def from_blocks(cls, blocks: Mapping[str, Gaussian | Discrete]) -> Mixed:
        """The mixed process of a mapping from block names to processes."""
        return cls(**dict(blocks))

    def corrupt(self, x0: Mapping[str, Tensor], t: Time, *, generator: Noise = None) -> dict[str, Tensor]:
        """Draw ``x_t`` given ``x_0``, block by block."""
        return {
            name: process.corrupt(block, block_time(t, name), generator=generator)
            for name, process, block in self.each(x0, "x0")
        }

    def prior(
        self,
        num_samples: int,
        shape: Mapping[str, Any] | None = None,
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Draw every block's prior; ``shape`` maps blocks to shapes (categorical blocks may know theirs)."""
        shape = dict(shape or {})
        missing = [name for name, process in self.blocks.items() if name not in shape and isinstance(process, Gaussian)]
        if missing:
            raise ValueError(f"shape: expected the shape of every continuous block, found none for {missing}.")
        return {
            name: process.prior(num_samples, shape.get(name), generator=generator, dtype=dtype, device=device)  # type: ignore[arg-type]
            for name, process in self.blocks.items()
        }

    def kernel(
        self, x_t: Mapping[str, Tensor], prediction: Mapping[str, Tensor], t: Time, s: Time, *, eta: float = 1.0
    ) -> MixedKernel:
        """The product of the blocks' kernels; arguments as theirs."""
        return MixedKernel(
            {
                name: process.kernel(block, prediction[name], block_time(t, name), block_time(s, name), eta=eta)
                for name, process, block in self.each(x_t, "x_t")
            }
        )

    def tabulated(self, times: Tensor) -> Self:
        """A copy whose Gaussian blocks know their scales at some times by heart; arguments as `Gaussian.tabulated`."""
        process = copy.copy(self)
        process.blocks = MappingProxyType(
            {
                name: block.tabulated(times) if isinstance(block, Gaussian) else block
                for name, block in self.blocks.items()
            }
        )
        return process

    def each(self, state: State | Mapping[str, Tensor], argument: str) -> Iterator[tuple[str, Any, Tensor]]:
        """Name, process and tensor of each block; raises ``ValueError`` where the blocks are not this process's."""
        if not isinstance(state, Mapping) or set(state) != set(self.blocks):
            found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{argument}: expected a dict with the blocks {sorted(self.blocks)}, found {found}.")
        return ((name, process, state[name]) for name, process in self.blocks.items())
