"""What a solver is, and solvers written as stages that say where they need the denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from clarkia.processes import GaussianKernel, Kernel
from clarkia.random import Noise

Evaluate: TypeAlias = Callable[[Any, Any], Any]
"""The denoiser of one run, ``evaluate(x_t, t) -> prediction``, condition included."""

Stages: TypeAlias = Generator[tuple[Tensor, Tensor], Tensor, tuple[Tensor | Kernel, Any]]
"""Asks for predictions by yielding ``(x, t)``; returns where the step leads, a state or its law, and the next carry."""


class Solver(Protocol):
    """How to go from time t to s <= t.

    All state of a run lives in the carry: None, tensors, or tuples or dicts of them.
    """

    def init(self, x: Any, process: Any, generator: Noise = None) -> Any:
        """The carry of a run that starts at ``x``."""
        ...

    def step(
        self, denoise: Evaluate, process: Any, x: Any, t: Any, s: Any, carry: Any, generator: Noise = None
    ) -> tuple[Any, Any]:
        """The state at s and the next carry.

        Times are ``(n,)`` or the block's shape (for a mixed state, or a dict of these). An element at t = 0 is
        observed and stays exactly as it is; at s = 0 a continuous element becomes its prediction, a masked cell is
        drawn.
        """
        ...


class Staged(ABC):
    """A solver of one block, written as stages, so that several blocks can share one evaluation of the denoiser."""

    @abstractmethod
    def init(self, x: Tensor, process: Any, generator: Noise = None) -> Any:
        """The carry of a run that starts at ``x``; raises ``ValueError`` for a process this solver is not made for."""

    @abstractmethod
    def stages(self, process: Any, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None) -> Stages:
        """One step as a Python generator: yields ``(x, t)`` for each prediction it needs, returns where that leads.

        A stochastic step returns its transition kernel and the next carry, a deterministic one the state itself.
        """

    def step(
        self, denoise: Evaluate, process: Any, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[Tensor, Any]:
        """The state at s and the next carry."""
        outcome, carry = run(self.stages(process, x, t, s, carry, generator), denoise)
        return drawn(outcome, generator), carry

    def kernel(
        self, denoise: Evaluate, process: Any, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[Kernel, Any]:
        """The law of the state at s given the one at t, certain where the step is deterministic, and the next carry."""
        outcome, carry = run(self.stages(process, x, t, s, carry, generator), denoise)
        return as_kernel(outcome), carry


def run(stages: Stages, denoise: Evaluate) -> tuple[Tensor | Kernel, Any]:
    """Drive the stages of one step with the denoiser."""
    request = next(stages)
    while True:
        try:
            request = stages.send(denoise(*request))
        except StopIteration as finished:
            return finished.value


def drawn(outcome: Tensor | Kernel, generator: Noise = None) -> Tensor:
    """The state that a step leads to."""
    return outcome if isinstance(outcome, Tensor) else outcome.sample(generator)


def as_kernel(outcome: Tensor | Kernel) -> Kernel:
    """The law of the state that a step leads to; a certain continuous state is a normal without width."""
    if not isinstance(outcome, Tensor):
        return outcome
    if not outcome.is_floating_point():
        raise ValueError("solver: expected a step with a kernel, found one that draws its classes by their moments.")
    return GaussianKernel(outcome, torch.zeros((1,) * outcome.ndim, dtype=outcome.dtype, device=outcome.device))


def require(process: Any, kind: type, solver: str) -> None:
    """Raise ``ValueError`` unless a solver meets the kind of process it is made for."""
    if not isinstance(process, kind):
        raise ValueError(f"solver: {solver} expects a {kind.__name__} process, found {type(process).__name__}.")


def take_carry(carry: Any, index: Tensor) -> Any:
    """The carry of the rows ``index``: what a hook that reorders rows must do beside reordering the state."""
    if isinstance(carry, Tensor):
        return carry[index]
    if isinstance(carry, dict):
        return {key: take_carry(value, index) for key, value in carry.items()}
    if isinstance(carry, tuple):
        return tuple(take_carry(value, index) for value in carry)
    return carry


def settled(kernel: GaussianKernel, stochasticity: float | Tensor) -> Tensor | GaussianKernel:
    """A step's law, or its mean alone where the step is deterministic and no noise need be drawn."""
    return kernel.mean if isinstance(stochasticity, float | int) and stochasticity == 0 else kernel
