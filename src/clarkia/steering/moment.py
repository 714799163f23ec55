"""Where particles stand before a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clarkia.processes import Process
from clarkia.processes.times import Time
from clarkia.random import Noise
from clarkia.spaces import State


@dataclass(frozen=True, eq=False)
class Moment:
    """Where particles stand before a step.

    Attributes:
        x: State, ``(n, ...)`` or a dict of blocks.
        t: Its time, ``(n,)``, or element-wise where cells are known.
        s: Time of the next state.
        prediction: The denoiser's answer at ``x``.
        process: The corruption.
        carry: What their move carries, such as predictions of earlier steps.
        generator: Source of randomness.
    """

    x: State
    t: Time
    s: Time
    prediction: Any
    process: Process
    carry: Any = None
    generator: Noise = None
