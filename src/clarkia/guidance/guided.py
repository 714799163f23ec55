"""A denoiser made from another one that can tell both answers at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clarkia.processes.times import Time
from clarkia.spaces import State


@dataclass(frozen=True, eq=False)
class Guided:
    """A guided denoiser.

    Importance weights need the answers with and without guidance at the same state; whoever guides has both at hand.

    Args:
        both: ``both(x_t, t, condition) -> (plain, guided)``, two predictions.
    """

    both: Callable[..., tuple[Any, Any]]

    def __call__(self, x_t: State, t: Time, condition: Any = None) -> Any:
        """The guided prediction."""
        return self.both(x_t, t, condition)[1]
