"""The one sampling loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser, check_prediction
from clarkia.processes import Discrete, Gaussian, Mixed, Process
from clarkia.processes.times import shared
from clarkia.random import Noise
from clarkia.samplers.ancestral import Ancestral
from clarkia.samplers.evidence import Evidence, known_rows, known_shape
from clarkia.samplers.heun import Heun
from clarkia.samplers.hooks import Hook, Step
from clarkia.samplers.live import on_live_rows
from clarkia.samplers.mixed import Mixed as MixedSolver
from clarkia.samplers.own_times import nothing_left, own_grid
from clarkia.samplers.solver import Solver, Staged
from clarkia.spaces import Categorical, Continuous, Space, State, map_blocks, num_rows
from clarkia.spaces import Mixed as MixedSpace


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Process,
    *,
    num_samples: int | None = None,
    initial: State | None = None,
    shape: Space | Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    solver: Solver | None = None,
    num_steps: int | None = None,
    times: Tensor | None = None,
    condition: Any = None,
    known: tuple[State, State] | None = None,
    hooks: Sequence[Hook] = (),
    generator: Noise = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> State:
    """Draw samples by walking a denoiser from noise to data.

    Args:
        denoiser: ``denoiser(x_t, t, condition=None) -> prediction``. For a mixed process ``t`` is a dict with one
            time a block; times are ``(n,)``, or the block's shape where cells are known or a solver churns columns
            apart.
        process: The corruption the denoiser undoes.
        num_samples: Number of points to draw from the prior, or
        initial: a state at the grid's first time to start from.
        shape: Shape of one data point, a dict of these a block, or the space itself; needed with ``num_samples``
            unless ``known`` or the process tells.
        solver: How to step; by default `Heun` for Gaussian processes, `Ancestral` for discrete ones, `Mixed` of both.
        num_steps: Number of steps of the uniform grid (50 where neither this nor ``times`` is given; solvers that
            find their own times take neither), or
        times: a decreasing grid in [0, 1], ``(steps + 1,)`` or one a row ``(steps + 1, n)``.
        condition: Passed to the denoiser where not None; a tensor, or each tensor of a dict, with as many entries as
            there are rows has one a row, and rows that are finished are left out of it.
        known: ``(values, mask)``, states of one row or of all rows; where ``mask`` is True the cell is held at its
            value and at time 0 throughout and comes out bit for bit. Blocks of a mixed state may be left out.
        hooks: Called after each step, in order.
        generator: Source of randomness; a `RowBlocks` makes row ``i`` independent of the batch.
        dtype: Dtype of the continuous prior.
        device: Device of the prior.

    Returns:
        The state at the last time of the grid.

    Raises:
        ValueError: A wrong argument, or a denoiser that answers with a wrong shape or a number that is not finite.
    """
    grid = _grid(num_steps, times)
    solver = default_solver(process) if solver is None else solver
    if isinstance(process, Mixed) and isinstance(solver, Staged):
        raise ValueError(f"solver: expected samplers.Mixed for a mixed process, found {type(solver).__name__}.")
    x = _start(process, num_samples, initial, shape, known, generator, dtype, device)
    evidence = Evidence(x, process, known)
    if num_rows(x) == 0:
        return x
    evaluate = _Evaluation(denoiser, process, condition, x)

    x = evidence.hold(x)
    carry = solver.init(x, process, generator)
    own = own_grid(solver, x, process, carry, given=num_steps is not None or times is not None)
    grid = grid if own is None else own
    rows = _row_times(grid, x)
    if grid.ndim == 1 and isinstance(process, Gaussian | Mixed):
        process = process.tabulated(grid.to(rows[0].device))
    total = len(rows) - 1
    times_t = evidence.times(rows[0], x)
    for index, (t, s) in enumerate(pairwise(rows)):
        times_s = evidence.times(s, x)
        x, carry = solver.step(evaluate, process, x, times_t, times_s, carry, generator)
        x = evidence.hold(x)
        if own is not None and nothing_left(x, process):
            total = index + 1
        if hooks:
            step = Step(index, total, t, s, x, evaluate.latest, carry)
            for hook in hooks:
                step = hook.on_step(step)
            x, carry = evidence.hold(step.x), step.carry
        if index + 1 == total:
            break
        times_t = times_s
    return x


def default_solver(process: Process) -> Solver:
    """The solver used where none is named."""
    if isinstance(process, Mixed):
        return MixedSolver()
    return Ancestral() if isinstance(process, Discrete) else Heun()


class _Evaluation:
    """The denoiser of one run: times in the state's precision, condition included, answers checked."""

    def __init__(self, denoiser: Denoiser, process: Process, condition: Any, x: State) -> None:
        blocks = [x] if isinstance(x, Tensor) else list(x.values())
        floats = [block.dtype for block in blocks if block.is_floating_point()]
        self._denoiser, self._process = denoiser, process
        self._dtype = floats[0] if floats else torch.get_default_dtype()
        self._condition = () if condition is None else (condition,)
        self.latest: Any = None

    def __call__(self, x: Any, t: Any) -> Any:
        t = {name: self._cast(time) for name, time in t.items()} if isinstance(t, dict) else self._cast(t)
        answer = on_live_rows(self._denoiser, x, t, *self._condition)
        check_prediction(answer, x, t, self._process)
        # Guidance may ask with gradients on; what is kept of an answer must not keep its graph.
        self.latest = map_blocks(Tensor.detach, answer) if torch.is_grad_enabled() else answer
        return answer

    def _cast(self, t: Tensor) -> Tensor:
        return shared(t).to(self._dtype).expand(t.shape)


def _grid(num_steps: int | None, times: Tensor | None) -> Tensor:
    if times is None:
        return schedules.uniform(50 if num_steps is None else num_steps)
    if num_steps is not None:
        raise ValueError("num_steps, times: expected one of the two, found both.")
    return schedules.check_times(times)


def _row_times(grid: Tensor, x: State) -> list[Tensor]:
    """The grid's nodes on the state's device, each ``(n,)``."""
    rows = num_rows(x)
    if grid.ndim == 2 and grid.shape[1] != rows:
        raise ValueError(f"times: expected one column for each of {rows} rows, found {grid.shape[1]}.")
    device = (x if isinstance(x, Tensor) else next(iter(x.values()))).device
    return [node.expand(rows) for node in grid.to(device)]


def _start(
    process: Process,
    num_samples: int | None,
    initial: State | None,
    shape: Any,
    known: tuple[State, State] | None,
    generator: Noise,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> State:
    """The state at the first time: the one given, or the prior."""
    if initial is not None:
        if num_samples is not None:
            raise ValueError("num_samples, initial: expected one of the two, found both.")
        return initial
    if num_samples is None:
        if known is None:
            raise ValueError("num_samples, initial: expected one of the two, found neither.")
        num_samples = known_rows(known)
    if shape is None:
        shape = known_shape(known) if known is not None else None
    elif isinstance(shape, Continuous | Categorical | MixedSpace):
        shape = shape.shape
    if shape is None and isinstance(process, Gaussian):
        raise ValueError("shape: expected the shape of one data point, found None.")
    return process.prior(num_samples, shape, generator=generator, dtype=dtype, device=device)  # type: ignore[arg-type]
