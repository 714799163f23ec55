"""The exponential moving average of a module's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of everything in a module's state: floating tensors are averaged, others follow.

    After step s (counted from 0) the average moves to d * average + (1 - d) * weights with
    d = min(decay, (1 + s) / (10 + s)), so that a short run is not held back by its random start.

    Args:
        module: the module to follow; it keeps training, the average lives beside it on the same device.
        decay: the limit of d.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._live = dict(module.state_dict())
        self.weights = {name: tensor.clone() for name, tensor in self._live.items()}
        floating = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        self._followed = [name for name in self._live if name not in set(floating)]
        self._targets = [self._live[name] for name in floating]
        self._averages = [self.weights[name] for name in floating]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module's weights after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._targets, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for name in self._followed:
            self.weights[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module carries the averaged weights; afterwards its own again, bit for bit."""
        own = snapshot(self._live)
        write(self._live, self.weights)
        try:
            yield
        finally:
            write(self._live, own)


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, cut off from their module."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def write(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, in place."""
    for name, target in targets.items():
        target.copy_(values[name])
