"""Steps from where something else has moved the state to, with the prediction it makes there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from clarkia.random import Noise
from clarkia.samplers.renoise import renoised
from clarkia.samplers.solver import Evaluate, Solver

Move: TypeAlias = Callable[[Evaluate, Any, Any, Noise], tuple[Any, Any, Any]]
"""``move(denoise, x_t, t, generator)``: the plain prediction, the state moved, and the prediction to step with."""


@dataclass(frozen=True, eq=False)
class Moved:
    """A solver's step that starts where guidance has moved the state, as training-free guidance of flows has it.

    Args:
        move: What moves the state and predicts, such as `guidance.TFGFlow`; it must leave observed elements alone.
        solver: Steps with that prediction; one that asks for several gets the same each time.
        num_recurrences: How often each step is made; before each repetition noise takes the state back to t.

    Raises:
        ValueError: A number of recurrences below 1.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025).
    """

    move: Move
    solver: Solver
    num_recurrences: int = 1

    def __post_init__(self) -> None:
        if self.num_recurrences < 1:
            raise ValueError(f"num_recurrences: expected at least 1, found {self.num_recurrences}.")

    def init(self, x: Any, process: Any, generator: Noise = None) -> Any:
        """The carry of the solver inside."""
        return self.solver.init(x, process, generator)

    def step(
        self, denoise: Evaluate, process: Any, x: Any, t: Any, s: Any, carry: Any, generator: Noise = None
    ) -> tuple[Any, Any]:
        """The state at s and the next carry."""
        for turn in range(self.num_recurrences):
            if turn:
                x = renoised(process, x, s, t, generator)
            _, there, prediction = self.move(denoise, x, t, generator)
            x, carry = self.solver.step(_constant(prediction), process, there, t, s, carry, generator)
        return x, carry


def _constant(prediction: Any) -> Evaluate:
    return lambda x, t: prediction
