"""The module in training: its weights, its gradients over all processes, and how it is lent and left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..random import Noise
from ..spaces import State
from .ema import snapshot, write
from .objective import Objective
from .processes import Processes


class Trainee(Protocol):
    """A module in training, whole in every process or cut up among them.

    All processes call all methods together.

    Attributes:
        followed: a module whose weights and buffers are those that this process holds, for the optimiser to move and
            for averages to follow.
        layout: all weights and buffers by name; their shapes are those of the whole ones.
    """

    followed: nn.Module
    layout: dict[str, Tensor]

    def train(self) -> None:
        """Put the module into training mode."""
        ...

    def backward(self, batch: State, noise: Noise, weight: float, *, last: bool) -> Tensor:
        """Add the gradients of a part of a batch to those before it, and give its losses (see `Objective`).

        Args:
            batch: the rows.
            noise: their noise.
            weight: their share of the rows of the step.
            last: whether this process has no further part of the step.
        """
        ...

    def finish_gradients(self) -> Tensor:
        """Hand the followed weights the gradient of the whole step, and give its Euclidean norm."""
        ...

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        ...

    def whole(self, name: str, part: Tensor) -> Tensor:
        """All of a weight, or of something that belongs to it as a moment or an average does, from this part."""
        ...

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This process's part of a weight, or of something that belongs to it."""
        ...

    def carrying(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[nn.Module]:
        """Lend a module with these weights, in evaluation mode and without gradients."""
        ...

    def leave(self, weights: Mapping[str, Tensor]) -> None:
        """End the training: the module that was given is left with these weights, in evaluation mode."""
        ...


class Whole:
    """A module that every process holds as a whole; their gradients are averaged.

    Args:
        objective: the module and its loss, on the device of this process.
        processes: those that train it.
    """

    def __init__(self, objective: Objective, processes: Processes):
        self.followed, self._processes = objective.module, processes
        self._forward: Objective | DistributedDataParallel = objective
        self.layout = dict(self.followed.state_dict())
        # Kept, because finding them takes a module's Python as long as a small step's update.
        self._weights = [weight for weight in self.followed.parameters() if weight.requires_grad]
        processes.broadcast(self.layout.values())
        if processes.size > 1:
            # Weights that a step does not use keep no gradient, as in one process.
            self._forward = DistributedDataParallel(objective, find_unused_parameters=True, init_sync=False)

    def train(self) -> None:
        """See `Trainee`."""
        self.followed.train()

    def backward(self, batch: State, noise: Noise, weight: float, *, last: bool) -> Tensor:
        """See `Trainee`."""
        forward, scale = self._forward, float(self._processes.size)
        apart = forward.no_sync if isinstance(forward, DistributedDataParallel) and not last else nullcontext
        with apart():
            means = forward(batch, noise, weight)
            # Sharing takes the mean over processes, but each has only its part of the sum over rows.
            (means.sum() if scale == 1.0 else means.sum() * scale).backward()
        return means.detach()

    def finish_gradients(self) -> Tensor:
        """See `Trainee`."""
        return torch.nn.utils.get_total_norm([weight.grad for weight in self._weights if weight.grad is not None])

    def clear_gradients(self) -> None:
        """See `Trainee`."""
        for weight in self._weights:
            weight.grad = None

    def whole(self, name: str, part: Tensor) -> Tensor:
        """See `Trainee`."""
        return part

    def part(self, name: str, whole: Tensor) -> Tensor:
        """See `Trainee`."""
        return whole

    @contextmanager
    def carrying(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """See `Trainee`."""
        own = snapshot(self.layout)
        write(self.layout, weights)
        self.followed.eval()
        try:
            with torch.no_grad():
                yield self.followed
        finally:
            self.followed.train()
            write(self.layout, own)

    def leave(self, weights: Mapping[str, Tensor]) -> None:
        """See `Trainee`."""
        write(self.layout, weights)
        self._processes.broadcast(self.layout.values())  # buffers that a process moved by itself
        self.followed.eval()
