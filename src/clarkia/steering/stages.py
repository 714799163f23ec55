"""Any sampler as a generator in stages: each walks a part of the grid; previews are what the denoiser foresees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clarkia import samplers
from clarkia.denoisers import Denoiser
from clarkia.processes import Process
from clarkia.random import RowBlocks, generator
from clarkia.samplers.solver import Solver
from clarkia.schedules import check_times
from clarkia.spaces import State, map_blocks, num_rows, take_rows


@dataclass(frozen=True, eq=False)
class SamplerStages:
    """The sampling loop cut into stages; see `Stages`.

    A draft's noise in a stage depends on the seed, the stage and its place among the drafts alone. So copies of one
    parent go on differently, and the way of any survivor can be walked again by itself.

    Args:
        denoiser: The denoiser.
        process: Its process.
        times: The grid, ``(steps + 1,)``, down to 0.
        steps: How many steps of the grid each stage makes.
        shape: Shape of one data point, as in `samplers.sample`.
        solver: As in `samplers.sample`; one that remembers earlier steps starts anew in each stage.
        condition: As in `samplers.sample`, the same for all drafts.
        seed: Of the noise.
        dtype: Dtype of the continuous prior.

    Raises:
        ValueError: Steps that are not those of the grid, or a grid that does not end at 0.
    """

    denoiser: Denoiser
    process: Process
    times: Tensor
    steps: Sequence[int]
    shape: Any = None
    solver: Solver | None = None
    condition: Any = None
    seed: int = 0
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        grid = check_times(self.times)
        if grid.ndim != 1 or float(grid[-1]) != 0:
            raise ValueError("times: expected one grid for all drafts that ends at 0.")
        if min(self.steps, default=0) < 1 or sum(self.steps) != len(grid) - 1:
            raise ValueError(f"steps: expected counts from 1 on that add to {len(grid) - 1}, found {list(self.steps)}.")

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self.steps)

    def init(self, num_drafts: int) -> State:
        """The prior."""
        noise = self._noise(0, 0, num_drafts)
        return self.process.prior(num_drafts, self.shape, generator=noise, dtype=self.dtype)

    def advance(self, drafts: State, stage: int, *, first: int = 0) -> State:
        """The drafts after a stage; ``first`` is the place of the first of them where not all are given."""
        start = sum(self.steps[:stage])
        return samplers.sample(
            self.denoiser, self.process, initial=drafts, solver=self.solver, condition=self.condition,
            times=self.times[start : start + self.steps[stage] + 1],
            generator=self._noise(stage + 1, first, num_rows(drafts)),
        )  # fmt: skip

    @torch.no_grad()
    def preview(self, drafts: State, stage: int) -> State:
        """The predicted means, and the likeliest classes; after the last stage the drafts themselves."""
        time = float(self.times[sum(self.steps[: stage + 1])])
        if time == 0:
            return drafts
        blocks = [drafts] if isinstance(drafts, Tensor) else list(drafts.values())
        floats = [block.dtype for block in blocks if block.is_floating_point()]
        t: Any = torch.full((num_rows(drafts),), time, dtype=floats[0] if floats else None, device=blocks[0].device)
        if isinstance(drafts, Mapping):
            t = dict.fromkeys(drafts, t)
        answer = self.denoiser(drafts, t, *(() if self.condition is None else (self.condition,)))
        return map_blocks(lambda x, seen: seen if x.is_floating_point() else seen.argmax(-1), drafts, answer)

    def reorder(self, drafts: State, index: Tensor) -> State:
        """The rows."""
        return take_rows(drafts, index)

    def _noise(self, stage: int, first: int, rows: int) -> RowBlocks:
        return RowBlocks(generator(self.seed, stage).initial_seed() % 2**63, first, rows, block=1)
