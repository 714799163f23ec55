"""Optimise data instead of weights: gradient descent on a batch of points, held still where a mask is zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from clarkia.curation.checks import check_choice, check_count, check_number
from clarkia.spaces import State

Rule = Literal["adam", "gradient"]
Schedule = Literal["constant", "cosine", "plateau"]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How points are moved.

    Attributes:
        steps: Number of steps.
        learning_rate: Length of a step at the start.
        rule: ``"adam"``, or ``"gradient"`` for plain gradient steps.
        schedule: Of the learning rate: ``"constant"``; ``"cosine"`` down to 0; ``"plateau"`` times ``factor`` whenever
            the loss has not improved by a ten-thousandth for ``patience`` steps.
        weight_decay: Decoupled decay of the points towards 0.
        betas: Adam's two averaging factors.
        patience: Steps without improvement that a plateau lasts.
        factor: Of the learning rate at the end of a plateau.

    Raises:
        ValueError: A value out of its range.
    """

    steps: int
    learning_rate: float
    rule: Rule = "adam"
    schedule: Schedule = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    patience: int = 500
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_count(self.steps, "steps", least=0)
        check_number(self.learning_rate, "learning_rate", low=0, open=True)
        check_choice(self.rule, "rule", get_args(Rule))
        check_choice(self.schedule, "schedule", get_args(Schedule))
        check_number(self.weight_decay, "weight_decay", low=0)
        check_count(self.patience, "patience")
        check_number(self.factor, "factor", low=0, high=1)
        for beta in self.betas:
            check_number(beta, "betas", low=0, high=1 - 1e-9)


@dataclass(frozen=True, eq=False)
class Optimised:
    """Where a descent ended.

    Attributes:
        x: The points.
        losses: Loss before each step.
    """

    x: State
    losses: tuple[float, ...]


def masked_optimise(
    x: State,
    loss: Callable[[State, int], Tensor],
    mask: State | None = None,
    *,
    descent: Descent,
    bounds: tuple[float, float] | None = None,
) -> Optimised:
    """Move points down a loss, each number by its mask's share of the step.

    The mask multiplies the update, not the gradient: Adam divides by the size of the gradient, which would undo a
    constant factor, and its averages would go on moving numbers whose gradient is masked. Numbers of mask 0 come back
    bit for bit, bounds or not.

    Args:
        x: Points, a tensor or a dict of tensors of floating-point numbers.
        loss: ``loss(x, step)`` gives one number; it is called with points that require a gradient.
        mask: Shares in [0, ...], broadcastable against the points; None moves all of them fully.
        descent: Number and kind of steps.
        bounds: Lowest and highest value that a moved number may take.

    Returns:
        The points after the last step, and the losses.

    Raises:
        ValueError: Points, mask or bounds that do not fit.
        FloatingPointError: A loss or a gradient that is not finite.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """
    blocks = _blocks(x)
    shares = _shares(mask, blocks)
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds: expected a lower and a higher number, found {bounds}.")
    first = {name: torch.zeros_like(block) for name, block in blocks.items()}
    second = {name: torch.zeros_like(block) for name, block in blocks.items()}
    rate, losses = _Rate(descent), []
    for step in range(descent.steps):
        leaves = {name: block.detach().requires_grad_() for name, block in blocks.items()}
        value = loss(leaves if isinstance(x, dict) else leaves["x"], step)
        gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        losses.append(_finite(value, gradients, step))
        length = rate.at(step, losses[-1])
        for (name, block), gradient in zip(blocks.items(), gradients, strict=True):
            if gradient is None:
                continue
            update = gradient
            if descent.rule == "adam":
                update = _adam(gradient, first[name], second[name], descent.betas, step)
            moved = block - length * shares[name] * (update + descent.weight_decay * block)
            moved = moved if bounds is None else moved.clamp(*bounds)
            blocks[name] = torch.where(shares[name] > 0, moved, block)
    return Optimised(blocks if isinstance(x, dict) else blocks["x"], tuple(losses))


class _Rate:
    """The learning rate of each step; remembers the course of the loss for the plateau schedule."""

    def __init__(self, descent: Descent) -> None:
        self.descent, self.scale, self.best, self.stale = descent, 1.0, math.inf, 0

    def at(self, step: int, loss: float) -> float:
        descent = self.descent
        if descent.schedule == "cosine":
            return descent.learning_rate * 0.5 * (1 + math.cos(math.pi * step / descent.steps))
        if descent.schedule == "plateau":
            improved = loss < self.best - 1e-4 * abs(self.best) if math.isfinite(self.best) else True
            self.best, self.stale = (loss, 0) if improved else (self.best, self.stale + 1)
            if self.stale > descent.patience:
                self.scale, self.stale = self.scale * descent.factor, 0
        return descent.learning_rate * self.scale


def _adam(gradient: Tensor, first: Tensor, second: Tensor, betas: tuple[float, float], step: int) -> Tensor:
    """Adam's direction; the two averages are updated in place."""
    first.lerp_(gradient, 1 - betas[0])
    second.lerp_(gradient.square(), 1 - betas[1])
    scale = (second / (1 - betas[1] ** (step + 1))).sqrt()
    return first / (1 - betas[0] ** (step + 1)) / (scale + 1e-8)  # Adam's own guard of a gradient of zero


def _blocks(x: State) -> dict[str, Tensor]:
    blocks = dict(x) if isinstance(x, dict) else {"x": x}
    for name, block in blocks.items():
        if not isinstance(block, Tensor) or not block.is_floating_point():
            found = block.dtype if isinstance(block, Tensor) else type(block).__name__
            raise ValueError(f"{name}: expected a floating-point tensor, found {found}.")
    return {name: block.detach() for name, block in blocks.items()}


def _shares(mask: State | None, blocks: dict[str, Tensor]) -> dict[str, Tensor]:
    if mask is None:
        return {name: block.new_ones(()) for name, block in blocks.items()}
    given = mask if isinstance(mask, dict) else {"x": mask}
    if set(given) != set(blocks):
        raise ValueError(f"mask: expected the blocks {sorted(blocks)}, found {sorted(given)}.")
    for name, share in given.items():
        try:
            fits = torch.broadcast_shapes(share.shape, blocks[name].shape) == blocks[name].shape
        except RuntimeError:
            fits = False
        if not fits or not bool(((share >= 0) & share.isfinite()).all()):
            raise ValueError(
                f"mask: expected shares from 0 that fit {tuple(blocks[name].shape)}, found {tuple(share.shape)} "
                f"from {float(share.min()):g} to {float(share.max()):g}."
            )
    return {name: share.detach().to(blocks[name]) for name, share in given.items()}


def _finite(value: Tensor, gradients: tuple[Tensor | None, ...], step: int) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise FloatingPointError(f"the loss is {number} at step {step}")
    if not all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None):
        raise FloatingPointError(f"the gradient is not finite at step {step}")
    return number
