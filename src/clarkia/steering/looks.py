"""What particles are foreseen to become: clean data that a reward can be asked about before the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from clarkia.processes import Discrete, Gaussian, Mixed, Process, spread
from clarkia.processes.times import block_time
from clarkia.random import categorical, randn
from clarkia.spaces import State
from clarkia.steering.moment import Moment

Look: TypeAlias = Callable[[Moment], Iterable[State]]
"""``look(moment)``: clean states, each of all particles, over which ``exp(reward)`` is averaged."""


@dataclass(frozen=True)
class Foreseen:
    """What the denoiser's answer says of the clean data: its mean, and draws around it.

    Classes are drawn, each cell from its own probabilities. Numbers are the posterior mean, or drawn around it with
    the width that a normal law of the data with deviation ``data_std`` would have,
    ``sigma data_std / sqrt(alpha^2 data_std^2 + sigma^2)``.

    Args:
        num_draws: How many clean states are looked at.
        data_std: Deviation of the clean numbers; None takes their mean alone.
    """

    num_draws: int = 1
    data_std: float | None = None

    def __post_init__(self) -> None:
        if self.num_draws < 1:
            raise ValueError(f"num_draws: expected at least 1, found {self.num_draws}.")

    def __call__(self, moment: Moment) -> Iterator[State]:
        """The states."""
        return (self._once(moment) for _ in range(self.num_draws))

    def _once(self, moment: Moment) -> State:
        process, x = moment.process, moment.x
        if isinstance(x, Mapping):
            assert isinstance(process, Mixed)
            return {
                name: self._block(moment, part, block, moment.prediction[name], block_time(moment.t, name))
                for name, part, block in process.each(x, "x")
            }
        return self._block(moment, process, x, moment.prediction, moment.t)  # type: ignore[arg-type]

    def _block(self, moment: Moment, process: Gaussian | Discrete, x: Tensor, answer: Tensor, t: Tensor) -> Tensor:
        if isinstance(process, Discrete):
            return categorical(answer, moment.generator)
        if self.data_std is None:
            return answer
        alpha, sigma = process.coefficients(t, x)
        width = sigma * self.data_std * torch.rsqrt(alpha**2 * self.data_std**2 + sigma**2)
        noise = randn(answer.shape, moment.generator, dtype=answer.dtype, device=answer.device)
        return answer + torch.where(spread(t, x) > 0, width, 0.0) * noise


def default_look(process: Process) -> Foreseen:
    """The posterior mean of numbers; where there are classes, 4 draws."""
    return Foreseen(1 if isinstance(process, Gaussian) else 4)
