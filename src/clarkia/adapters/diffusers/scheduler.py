"""A solver in the place of a diffusers scheduler."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia import schedules
from clarkia.adapters.diffusers.processes import prediction_of, process_of, times_of
from clarkia.processes import RectifiedFlow
from clarkia.samplers.solver import Staged, drawn

_FLOW_LEVELS = 1000.0

Walk: TypeAlias = Generator[tuple[Tensor, Tensor], Tensor, Tensor]
"""Asks for predictions by yielding ``(x, t)``, and returns the sample."""


class SolverScheduler:
    """Lets a diffusers pipeline walk with a solver.

    ``pipeline.scheduler = SolverScheduler(DPMSolverPP(order=2), pipeline.scheduler)`` is all it takes. A pipeline
    evaluates the network itself and hands over one answer after the other; the solver's stages wait for them. Any
    `Staged` solver will do, those of several evaluations a step included.

    Args:
        solver: A solver of Gaussian processes written as stages.
        scheduler: The pipeline's own scheduler: its configuration says what the network was trained for.
        grid: Function ``(num_steps, process) -> times``, such as `schedules.log_snr`; by default the scheduler's own.

    Raises:
        ValueError: A solver that is not written as stages or not made for Gaussian processes, or a scheduler that is
            not known.
    """

    def __init__(self, solver: Staged, scheduler: Any, *, grid: Any = None) -> None:
        if not isinstance(solver, Staged):
            raise ValueError(f"solver: expected one written as stages, found {type(solver).__name__}.")
        self.solver, self.grid, self.config = solver, grid, scheduler.config
        self.process, self.kind = process_of(scheduler), prediction_of(scheduler)
        solver.init(torch.zeros(1, 1), self.process)  # which refuses a process that it is not made for
        self._like, self.order, self.init_noise_sigma = scheduler, 1, 1.0
        self.timesteps: Tensor = torch.empty(0)
        self._times: Tensor = torch.empty(0)
        self._under_way: tuple[Walk, tuple[Tensor, Tensor]] | None = None

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **options: Any) -> None:
        """Lay out a walk.

        Args:
            num_inference_steps: Number of steps.
            device: Where the timesteps live.
            options: Further arguments of the original scheduler's, such as ``mu``.
        """
        if self.grid is None:
            self._times = times_of(self._like, num_inference_steps, **options)
        else:
            self._times = schedules.check_times(self.grid(num_inference_steps, self.process))
        # A rehearsal on one number tells at which times the solver will ask for the network.
        x = torch.zeros(1, 1, dtype=torch.float64)
        walk = self._walk(x, torch.Generator().manual_seed(0))
        asked = [next(walk)[1]]
        with suppress(StopIteration):
            while True:
                asked.append(walk.send(x)[1])
        self.timesteps = self._levels(torch.cat(asked)).to(device)
        self._under_way = None

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample: walks are in the network's own units."""
        return sample

    def step(
        self,
        model_output: Float[Tensor, "n ..."],
        timestep: Any,
        sample: Float[Tensor, "n ..."],
        generator: torch.Generator | None = None,
        return_dict: bool = True,
        **unused: Any,
    ) -> Any:
        """Hand the network's answer over and get the next state it is wanted at.

        Args:
            model_output: The answer at `sample`; with twice its channels, their first half.
            timestep: As in `timesteps`; they must come in their order.
            sample: The state.
            generator: Noise of a stochastic solver, that of the first step for the whole walk.
            return_dict: Whether to answer with an object that has ``prev_sample`` and ``pred_original_sample``, or with
                a tuple of the first.
            unused: What other schedulers take.

        Raises:
            ValueError: Before `set_timesteps`, or more steps than it laid out.
        """
        if not len(self._times):
            raise ValueError("scheduler: expected set_timesteps before the first step and before another walk.")
        if self._under_way is None:
            walk = self._walk(sample, generator)
            self._under_way = walk, next(walk)
        walk, (x, t) = self._under_way
        x0_hat = self.process.convert(model_output[:, : sample.shape[1]], x, t, self.kind, "x0")
        try:
            request = walk.send(x0_hat)
            self._under_way, reached = (walk, request), request[0]
        except StopIteration as finished:
            self._times, self._under_way, reached = self._times[:0], None, finished.value
        if not return_dict:
            return (reached,)
        return SimpleNamespace(prev_sample=reached, pred_original_sample=x0_hat)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean states at the given timesteps, with the given noise."""
        t = self._time_of_level(timesteps.to(original_samples.device, torch.float64))
        alpha, sigma = self.process.coefficients(t, original_samples)
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return int(getattr(self.config, "num_train_timesteps", _FLOW_LEVELS))

    def _walk(self, x: Tensor, generator: torch.Generator | None) -> Walk:
        """The stages of all steps in a row; the last state at its end."""
        carry = self.solver.init(x, self.process, generator)
        for t, s in pairwise(self._times.to(x.device)):
            outcome, carry = yield from self.solver.stages(
                self.process, x, t.expand(len(x)), s.expand(len(x)), carry, generator
            )
            x = drawn(outcome, generator)
        return x

    def _levels(self, t: Tensor) -> Tensor:
        if isinstance(self.process, RectifiedFlow):
            return (t * _FLOW_LEVELS).float()
        levels = t * len(self) - 1
        whole = levels.round()
        return whole.long() if bool(((levels - whole).abs() < 1e-6).all()) else levels.clamp(min=0.0).float()

    def _time_of_level(self, levels: Tensor) -> Tensor:
        return levels / _FLOW_LEVELS if isinstance(self.process, RectifiedFlow) else (levels + 1) / len(self)
