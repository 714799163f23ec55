"""One evaluation of a denoiser, and gradients through it back to the noisy state.

Sampling runs without gradients; here they are switched on for as long as they are needed, and what comes out is
detached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Gaussian, Mixed, Process
from clarkia.processes.times import Time, block_time
from clarkia.spaces import State

WHOLE = ""
"""Name of the block of a state that has only one."""

Blocks = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A denoiser's answer that still knows how it depends on the noisy state.

    Args:
        process: The process.
        x_t: The noisy state; its continuous blocks are leaves of the graph.
        t: Its time.
        prediction: The answer.
        leaves: The continuous blocks by name.
    """

    process: Process
    x_t: State
    t: Time
    prediction: Any
    leaves: Blocks

    @property
    def plain(self) -> Any:
        """The answer without its history."""
        return mapped(self.prediction, lambda _, block: block.detach())

    def block(self, name: str) -> tuple[Gaussian, Tensor, Tensor, Tensor]:
        """Process, noisy state, time and prediction of a continuous block."""
        if name == WHOLE:
            return self.process, self.x_t, self.t, self.prediction  # type: ignore[return-value]
        assert isinstance(self.process, Mixed)
        return (
            self.process.blocks[name],  # type: ignore[return-value]
            self.leaves[name],
            block_time(self.t, name),
            self.prediction[name],
        )

    def pulled(self, output: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Gradients of a function of state and answer with respect to the state's continuous blocks.

        Args:
            output: What to differentiate, made with gradients on.
            weights: Weights of its entries; None sums them.

        Raises:
            ValueError: It does not depend on the state.
        """
        if not output.requires_grad:
            raise ValueError(
                "denoiser, log_h: expected an answer that can be differentiated, found one that does not depend on the "
                "noisy state; is something computed under torch.no_grad or detached?"
            )
        weights = torch.ones_like(output) if weights is None else weights
        found = torch.autograd.grad(output, list(self.leaves.values()), weights, retain_graph=True, allow_unused=True)
        zero = (torch.zeros_like(leaf) for leaf in self.leaves.values())
        both = zip(self.leaves, found, zero, strict=True)
        return {name: nothing if gradient is None else gradient for name, gradient, nothing in both}

    def moved(self, gradients: Blocks, scale: float = 1.0) -> Any:
        """The answer plus ``scale (sigma^2 / alpha) gradient`` in each continuous block."""

        def move(name: str, prediction: Tensor) -> Tensor:
            if name not in gradients:
                return prediction.detach()
            process, x, t, _ = self.block(name)
            return prediction.detach() + scale * tweedie_factor(process, x, t) * gradients[name]

        return mapped(self.prediction, move)


def evaluated(denoiser: Denoiser, process: Process, x_t: State, t: Time, condition: Any = None) -> Evaluated:
    """Ask the denoiser with gradients on.

    Raises:
        ValueError: A process without a continuous block.
    """
    names = continuous_blocks(process)
    given = () if condition is None else (condition,)
    with torch.enable_grad():
        if isinstance(process, Mixed):
            blocks = {name: block for name, _, block in process.each(x_t, "x_t")}
            leaves = {name: blocks[name].detach().requires_grad_() for name in names}
            state: State = {**blocks, **leaves}
        else:
            state = x_t.detach().requires_grad_()  # type: ignore[union-attr]
            leaves = {WHOLE: state}
        return Evaluated(process, state, t, denoiser(state, t, *given), leaves)


def continuous_blocks(process: Process) -> list[str]:
    """The names of the blocks that have gradients."""
    if isinstance(process, Gaussian):
        return [WHOLE]
    names = [name for name, block in getattr(process, "blocks", {}).items() if isinstance(block, Gaussian)]
    if not names:
        raise ValueError(f"process: expected one with a Gaussian block, found {type(process).__name__}.")
    return names


def tweedie_factor(process: Gaussian, x: Tensor, t: Tensor) -> Tensor:
    """``sigma^2 / alpha``, the factor between a gradient in x_t and a change of ``x0_hat``.

    It is 0 at t = 0, where elements are observed and sigma is 0. Where alpha is 0 a state says nothing of the data, an
    exact gradient vanishes like alpha, and what is left of a learned one is noise: there it is 0 as well.
    """
    alpha, sigma = process.coefficients(t, x)
    return torch.where(alpha > 0, sigma**2 / torch.where(alpha > 0, alpha, 1.0), 0.0)


def mapped(prediction: Any, change: Any) -> Any:
    """``change(name, block)`` of every block of a prediction."""
    if isinstance(prediction, Mapping):
        return {name: change(name, block) for name, block in prediction.items()}
    return change(WHOLE, prediction)
