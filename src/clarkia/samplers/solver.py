"""What a solver is, and solvers written as stages that say where they need the denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from clarkia.random import Noise

Evaluate: TypeAlias = Callable[[Any, Any], Any]
"""The denoiser of one run, ``evaluate(x_t, t) -> prediction``, condition included."""

Stages: TypeAlias = Generator[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Any]]


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
        """One step as a Python generator: yields ``(x, t)`` for each prediction it needs, returns ``(x_s, carry)``."""

    def step(
        self, denoise: Evaluate, process: Any, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[Tensor, Any]:
        """The state at s and the next carry."""
        stages = self.stages(process, x, t, s, carry, generator)
        request = next(stages)
        while True:
            try:
                request = stages.send(denoise(*request))
            except StopIteration as finished:
                return finished.value


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
