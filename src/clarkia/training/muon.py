"""Momentum made orthogonal: an optimiser for the matrices of layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .trainee import Trainee

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of s -> a s + b s^3 + c s^5, which five times over takes all but the smallest of the singular values near one."""

ADAMW_SIZE = 0.2
"""Root mean square of the numbers that AdamW moves its weights by, in learning rates; so one rate serves both."""


class Muon(torch.optim.Optimizer):
    """Move each matrix by its averaged gradient with all singular values made nearly one.

    A step then changes what a layer does alike in all directions, where AdamW spends it on the few that dominate the
    gradient. Kernels of convolutions are matrices of one row for each output.

    Args:
        weights: By name the weights, of two axes at the least, of which this process may hold parts.
        trainee: Puts them together.
        lr: Learning rate, of the same meaning as AdamW's.
        momentum: Averaging factor of the gradients.
        weight_decay: Decoupled decay.

    Source: Muon: An optimizer for hidden layers in neural networks (2024); Muon is Scalable for LLM Training (2025).
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        trainee: Trainee,
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(list(weights.values()), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._names, self._trainee = {weight: name for name, weight in weights.items()}, trainee

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        for group in self.param_groups:
            moved = [weight for weight in group["params"] if weight.grad is not None]
            for weight, direction in zip(moved, self._directions(moved, group["momentum"]), strict=True):
                weight.mul_(1.0 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])

    def _directions(self, weights: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """What each weight moves by at a learning rate of one; matrices of one shape are computed together."""
        wholes = [self._trainee.whole(self._names[weight], self._averaged(weight, momentum)) for weight in weights]
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, whole in enumerate(wholes):
            alike[len(whole), whole[0].numel()].append(place)
        for (rows, columns), places in alike.items():
            size = ADAMW_SIZE * sqrt(max(rows, columns))
            answers = orthogonal(torch.stack([wholes[place].flatten(1) for place in places]))
            for place, answer in zip(places, answers, strict=True):
                wholes[place] = size * answer.view_as(wholes[place])
        return [self._trainee.part(self._names[weight], whole) for weight, whole in zip(weights, wholes, strict=True)]

    def _averaged(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """The average of the gradients, one step ahead of itself (Nesterov)."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].lerp_(weight.grad, 1.0 - momentum)
        return weight.grad.lerp(average, momentum)


def orthogonal(matrices: Float[Tensor, "k r c"], steps: int = 5) -> Float[Tensor, "k r c"]:
    """The matrices with their singular values nearly one, and their singular vectors as they are.

    Args:
        matrices: Any; those of zeros stay so.
        steps: Iterations of the polynomial, after division by the Frobenius norm.
    """
    a, b, c = COEFFICIENTS
    x = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax((1, 2), keepdim=True).clamp(min=tiny)  # or the squares of small numbers vanish
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=tiny)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[1] > matrices.shape[2] else x
