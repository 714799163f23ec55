"""First-hitting sampling of masked diffusion: no time grid, one call of the denoiser for each moment of reveal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Masked, spread
from clarkia.processes.kernels import MaskedKernel
from clarkia.random import Noise, rand
from clarkia.samplers.solver import Staged, Stages, require

# A schedule may keep a cell masked down to t = 0; its moment lies this far above, so that it is a moment of the run.
LEAST_TIME = 1e-12


@dataclass(frozen=True)
class FirstHitting(Staged):
    """The continuous-time reverse process of masked diffusion, walked from one reveal to the next.

    Each masked cell is revealed at its own moment, uniform on the axis ``1 - alpha``; a row's moments are drawn at the
    start and are its time grid, so the run needs no ``num_steps``. Between two moments nothing happens and nothing is
    computed; at a moment the denoiser is asked once and one class is drawn. An exact denoiser is sampled exactly.

    Args:
        tokens_per_call: How many consecutive moments share the call at the first of them; a tuple gives the sizes of
            the first groups, its last number that of all further ones. Cells of a group are drawn independently, which
            costs their total correlation given what was visible.

    Raises:
        ValueError: A size below 1.

    Source: Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical
    Sampling (2024).
    """

    tokens_per_call: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        if not self._sizes or min(self._sizes) < 1:
            raise ValueError(f"tokens_per_call: expected positive numbers, found {self.tokens_per_call!r}.")

    def init(self, x: Tensor, process: Masked, generator: Noise = None) -> Float[Tensor, "n ..."]:
        """The time at which each cell is revealed, float64 in the shape of ``x``; 0 at visible cells."""
        require(process, Masked, "FirstHitting")
        most = 1 - process.alpha(torch.ones(1, dtype=torch.float64, device=x.device))
        levels = most * (1 - rand(x.shape, generator, device=x.device))  # in (0, 1 - alpha_1]
        moments = process.schedule.t_of_alpha(1 - levels).clamp(LEAST_TIME, 1.0)
        return torch.where(process.is_masked(x), moments, 0.0)

    def own_times(self, x: Tensor, process: Masked, carry: Tensor) -> Float[Tensor, "nodes n"]:
        """The run's own grid: in each row the first moment of each group, falling, then 0."""
        moments = carry.flatten(1).sort(1, descending=True).values
        most = int((moments > 0).any(0).sum())
        firsts = list(self._firsts(most))
        return torch.cat([moments[:, firsts], moments.new_zeros(len(moments), 1)], 1).T

    def stages(
        self, process: Masked, x: Tensor, t: Tensor, s: Tensor, carry: Tensor, generator: Noise = None
    ) -> Stages:
        """One evaluation at ``t``; cells whose moment lies in ``(s, t]`` take a class, at s = 0 all masked ones."""
        log_probs = yield x, t
        t, s = spread(t, x), spread(s, x)
        revealed = process.is_masked(x) & (t > s) & ((carry > s) | (s == 0))
        return revealing(x, revealed, log_probs), carry

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (self.tokens_per_call,) if isinstance(self.tokens_per_call, int) else tuple(self.tokens_per_call)

    def _firsts(self, most: int) -> Iterator[int]:
        first, group = 0, 0
        while first < most:
            yield first
            first += self._sizes[min(group, len(self._sizes) - 1)]
            group += 1


def revealing(x: Tensor, revealed: Tensor, log_probs: Tensor) -> MaskedKernel:
    """The kernel that draws a class at each revealed cell and leaves every other cell as it is.

    Args:
        x: int64 ``(n, ...)``.
        revealed: bool ``(n, ...)``, masked cells.
        log_probs: ``(n, ..., K)``.
    """
    return MaskedKernel(x, revealed, torch.zeros((), dtype=torch.float64, device=x.device), log_probs)
