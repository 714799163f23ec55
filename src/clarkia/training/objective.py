"""The loss of some rows of a step, in the form that gradients are shared over processes in."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from ..random import Noise
from ..spaces import State

# A run in one process that takes its batches whole draws from a torch.Generator, so that a loss may use torch's own
# functions; where the batch is shared the noise is a clarkia.random.Share.
Loss = Callable[[nn.Module, State, torch.Generator], Tensor | Mapping[str, Tensor]]


class Objective(nn.Module):
    """A loss around the module it trains: one forward call a part of a batch, whatever the loss calls inside.

    Both ways of sharing the work between processes act before and after a forward call. With the loss inside, the loss
    sees the module itself and may call any of its parts, as often as it likes.

    Args:
        module: the module that is trained.
        loss: loss(module, batch, noise) gives a loss a row, or several by name.
        autocast: the kind of device on which the loss computes in bfloat16 where it may; None computes in float32.

    Attributes:
        names: of the losses, after a call.
    """

    def __init__(self, module: nn.Module, loss: Loss, autocast: str | None = None):
        super().__init__()
        self.module, self.names = module, ()
        self._autocast = autocast
        self._loss = partial(loss)  # parameters of a loss that is a module itself are not trained

    def forward(self, batch: State, noise: Noise, weight: float) -> Tensor:
        """The mean of each loss over the rows of the batch times `weight`, their share of the step; shape (losses,)."""
        with self._precision():
            losses = self._loss(self.module, batch, noise)  # pyright: ignore[reportArgumentType]
        losses = losses if isinstance(losses, Mapping) else {"loss": losses}
        self.names = tuple(losses)
        means = torch.stack([_mean(name, values) for name, values in losses.items()])
        return means if weight == 1.0 else means * weight

    def _precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self._autocast is None else torch.autocast(self._autocast, dtype=torch.bfloat16)


def title(name: str) -> str:
    """How a message calls a loss."""
    return name if name in ("loss", "gradient norm") else f"loss {name!r}"


def _mean(name: str, values: Tensor) -> Tensor:
    if values.ndim != 1:
        raise ValueError(f"the {title(name)} must have one value a row, not the shape {tuple(values.shape)}")
    return values.float().mean()
