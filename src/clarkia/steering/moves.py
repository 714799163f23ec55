"""How particles go from one time to the next, and what their weights must pay for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import GaussianKernel, Kernel, MixedKernel
from clarkia.processes.times import Time
from clarkia.random import Noise
from clarkia.samplers.mixed import Mixed
from clarkia.samplers.own_times import own_grid
from clarkia.samplers.solver import Evaluate, Solver, Staged, as_kernel, run
from clarkia.spaces import State
from clarkia.steering.potentials import zeros


class Move(Protocol):
    """A step of the particles.

    Its draws come from some law q; where that is not the model's own p, the weights pay ``log p - log q``.
    """

    def init(self, x: State, process: Any, generator: Noise = None) -> Any:
        """The carry of a run that starts at ``x``."""
        ...

    def step(
        self, denoise: Evaluate, process: Any, x: State, t: Time, s: Time, carry: Any, generator: Noise = None
    ) -> tuple[State, Any, Float[Tensor, " n"]]:
        """The state at s, the next carry, and what is added to the log-weights, float64 ``(n,)``."""
        ...


@dataclass(frozen=True)
class Plain:
    """The steps of a solver under the model itself: nothing to pay.

    Args:
        solver: Any; where it is deterministic, copies of a particle stay together.
    """

    solver: Solver

    def init(self, x: State, process: Any, generator: Noise = None) -> Any:
        """The solver's carry."""
        return self.solver.init(x, process, generator)

    def own_times(self, x: Any, process: Any, carry: Any) -> Tensor | None:
        """The solver's."""
        return own_grid(self.solver, x, process, carry, given=False)

    def step(
        self, denoise: Evaluate, process: Any, x: State, t: Time, s: Time, carry: Any, generator: Noise = None
    ) -> tuple[State, Any, Float[Tensor, " n"]]:
        """The solver's step."""
        x_s, carry = self.solver.step(denoise, process, x, t, s, carry, generator)
        return x_s, carry, zeros(x)


@dataclass(frozen=True, eq=False)
class Proposed:
    """The steps of a solver under a guided denoiser, with the width of the unguided step.

    The draw is made around the guided mean (or from the guided classes); its width, and whatever the unguided step
    leaves to no chance, is the model's own, so that the ratio of densities is always finite.

    Args:
        solver: One whose steps have kernels, written as stages or `samplers.Mixed`.
        both: ``both(x_t, t) -> (plain, guided)``, the model's prediction and the one that draws follow.
        seen: A state, its time and the guided prediction there, which then need not be asked for again.

    Raises:
        ValueError: A solver without kernels.
    """

    solver: Staged | Mixed
    both: Callable[[Any, Any], tuple[Any, Any]]
    seen: tuple[State, Time, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Staged | Mixed):
            raise ValueError(
                f"solver: expected one whose steps have a density when there is a proposal, such as DDPM, Ancestral or "
                f"Mixed of these, found {type(self.solver).__name__}."
            )

    def init(self, x: State, process: Any, generator: Noise = None) -> Any:
        """The solver's carry, once for the model and once for the proposal."""
        carry = self.solver.init(x, process, generator)  # type: ignore[arg-type]
        return carry, carry

    def own_times(self, x: Any, process: Any, carry: Any) -> Tensor | None:
        """The solver's."""
        return own_grid(self.solver, x, process, carry[0], given=False)

    def step(
        self, denoise: Evaluate, process: Any, x: State, t: Time, s: Time, carry: Any, generator: Noise = None
    ) -> tuple[State, Any, Float[Tensor, " n"]]:
        """A draw from the proposal."""
        model, model_carry = self._law(denoise, process, x, t, s, carry[0], generator)
        proposal, proposal_carry = self._law(self._guided(), process, x, t, s, carry[1], generator)
        proposal = as_wide(proposal, model)
        x_s = proposal.sample(generator)
        return x_s, (model_carry, proposal_carry), log_ratio(model, proposal, x_s)

    def _guided(self) -> Evaluate:
        def guided(x: Any, t: Any) -> Any:
            return self.both(x, t)[1]

        return guided if self.seen is None else known_at(guided, *self.seen)

    def _law(
        self, denoise: Evaluate, process: Any, x: Any, t: Any, s: Any, carry: Any, generator: Noise
    ) -> tuple[Kernel, Any]:
        if isinstance(self.solver, Mixed):
            return self.solver.kernel(denoise, process, x, t, s, carry, generator)
        # Not the solver's `kernel`: cells that are revealed at their own moments are so under both laws alike.
        outcome, carry = run(self.solver.stages(process, x, t, s, carry, generator), denoise)
        return as_kernel(outcome), carry


def as_wide(proposal: Any, model: Any) -> Any:
    """A proposal with the width of the model's step, and its certainties."""
    if isinstance(model, MixedKernel):
        return MixedKernel({name: as_wide(proposal.kernels[name], part) for name, part in model.kernels.items()})
    if isinstance(model, GaussianKernel):
        return GaussianKernel(torch.where(model.std > 0, proposal.mean, model.mean), model.std)
    return proposal


def log_ratio(model: Any, proposal: Any, x_s: Any) -> Float[Tensor, " n"]:
    """``log p(x_s) - log q(x_s)`` of a draw of q, float64 ``(n,)``."""
    if isinstance(model, MixedKernel):
        parts = [log_ratio(part, proposal.kernels[name], x_s[name]) for name, part in model.kernels.items()]
        return torch.stack(parts).sum(0)
    if isinstance(model, GaussianKernel) and isinstance(proposal, GaussianKernel):
        # The widths are equal and their normalisers cancel.
        mean, other, std = model.mean.double(), proposal.mean.double(), model.std.double()
        live, x = std > 0, x_s.double()
        scale = torch.where(live, std, 1.0)
        gain = ((x - other) / scale) ** 2 - ((x - mean) / scale) ** 2
        return 0.5 * torch.where(live, gain, 0.0).flatten(1).sum(1)
    return model.log_prob(x_s) - proposal.log_prob(x_s)


def known_at(denoise: Evaluate, x: State, t: Time, prediction: Any) -> Evaluate:
    """A denoiser that knows its answer at one state, and asks ``denoise`` everywhere else."""

    def evaluate(state: Any, time: Any) -> Any:
        return prediction if _same(state, x) and _equal(time, t) else denoise(state, time)

    return evaluate


def _same(state: Any, other: Any) -> bool:
    if isinstance(state, Mapping) and isinstance(other, Mapping):
        return state.keys() == other.keys() and all(state[name] is other[name] for name in state)
    return state is other


def _equal(time: Any, other: Any) -> bool:
    if isinstance(time, Mapping):
        return all(_equal(part, other[name] if isinstance(other, Mapping) else other) for name, part in time.items())
    return time is other or (time.shape == other.shape and bool(torch.equal(time, other)))
