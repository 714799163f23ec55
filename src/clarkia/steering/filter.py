"""One generation of particles after the other: weigh, copy, move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clarkia.processes.times import Time
from clarkia.random import Noise
from clarkia.samplers.own_times import OwnTimes
from clarkia.samplers.solver import Evaluate, take_carry
from clarkia.spaces import State, num_rows, take_rows
from clarkia.steering.moment import Moment
from clarkia.steering.moves import Move, Proposed, known_at
from clarkia.steering.potentials import Potential, zeros
from clarkia.steering.resampling import Scheme, ancestors, effective_size

Threshold: TypeAlias = float | Literal["always", "never"]

Carry: TypeAlias = dict[str, Any]
"""What the filter carries of each particle; sums over a group stand in each of its rows."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A solver whose rows are particles, in groups of k that never mix.

    Before a step, particles are weighed by the potential at the prediction that the step needs anyway; where the
    weights of a group are worth too few particles, particles are copied in proportion to them and all weigh the same
    again. Weights are carried on wherever nothing is copied.

    Args:
        move: How particles go on.
        potential: What they are weighed by.
        num_particles: k, particles a group; rows are ordered by group.
        ess_threshold: A group is resampled where its effective size falls below this share of k; or ``"always"`` or
            ``"never"``.
        resample: How, see `resampling.ancestors`.
        every: Weigh before every so many steps.
        window: Times ``(start, end)`` with start >= end within which to weigh.
    """

    move: Move
    potential: Potential
    num_particles: int
    ess_threshold: Threshold = 0.5
    resample: Scheme = "systematic"
    every: int = 1
    window: tuple[float, float] = (1.0, 0.0)

    def init(self, x: State, process: Any, generator: Noise = None) -> Carry:
        """Particles that weigh the same, each its own ancestor."""
        rows = zeros(x)
        return {
            "move": self.move.init(x, process, generator),
            "memory": self.potential.memory(x),
            "log_weights": rows,
            "log_z": rows,
            "ancestor": torch.arange(num_rows(x), device=rows.device),
            "ess": torch.full_like(rows, float(self.num_particles)),
            "copied": torch.zeros_like(rows, dtype=torch.bool),
            "steps": 0,
        }

    def own_times(self, x: Any, process: Any, carry: Carry) -> Float[Tensor, "nodes n"] | None:
        """The times of the move, where it finds its own; raises ``ValueError`` unless all of a group share them.

        A particle that is copied takes over its ancestor's state, and so must stand at the time of the row it replaces.
        """
        times = self.move.own_times(x, process, carry["move"]) if isinstance(self.move, OwnTimes) else None
        if times is None:
            return None
        groups = times.unflatten(1, (-1, self.num_particles))
        if bool((groups != groups[:, :, :1]).any()):
            raise ValueError(
                "solver: expected one whose rows share their times, so that particles can be copied, found one that "
                "draws a time for each cell; samplers.Ancestral('stratified') reveals one cell at a time too."
            )
        return times

    def step(
        self,
        denoise: Evaluate,
        process: Any,
        x: State,
        t: Time,
        s: Time,
        carry: Carry,
        generator: Noise = None,
    ) -> tuple[State, Carry]:
        """One generation."""
        move, seen = self.move, None
        carry = {**carry, "copied": torch.zeros_like(carry["copied"])}
        weighs = self.potential.looks and self._due(carry["steps"], t)
        if isinstance(move, Proposed):
            seen = move.both(x, t)
        elif weighs:
            seen = (denoise(x, t), None)
        if weighs and seen is not None:
            moment = Moment(x, t, s, seen[0], process, carry["move"], generator)
            factor, memory = self.potential.at(moment, carry["memory"])
            weights = carry["log_weights"] + factor
            carry = {**carry, "log_weights": weights, "memory": memory, "ess": self._sizes(weights)}
            x, seen, carry = self._copied(x, seen, carry, generator)
        if seen is not None:
            denoise = known_at(denoise, x, t, seen[0])
        if isinstance(move, Proposed) and seen is not None:
            move = replace(move, seen=(x, t, seen[1]))
        x, after, gain = move.step(denoise, process, x, t, s, carry["move"], generator)
        return x, {**carry, "move": after, "log_weights": carry["log_weights"] + gain, "steps": carry["steps"] + 1}

    def finish(self, x: State, carry: Carry) -> Carry:
        """The carry with the last factor in the weights, and all of them in ``log_z``."""
        weights = carry["log_weights"] + self.potential.final(x, carry["memory"])
        carry = {**carry, "log_weights": weights, "ess": self._sizes(weights)}
        return {**carry, "log_z": carry["log_z"] + self._evidence(weights)}

    def _due(self, steps: int, t: Time) -> bool:
        times = list(t.values()) if isinstance(t, dict) else [t]
        latest = max(float(time.max()) for time in times)  # type: ignore[union-attr]
        start, end = self.window
        return steps % self.every == 0 and end <= latest <= start

    def _copied(
        self, x: State, seen: tuple[Any, Any], carry: Carry, generator: Noise
    ) -> tuple[State, tuple[Any, Any], Carry]:
        """Particles copied in proportion to their weights, in the groups where that is due."""
        k, weights = self.num_particles, carry["log_weights"].reshape(-1, self.num_particles)
        # A group without any weight is left as it is: there is nobody to copy.
        due = self._poor(carry["ess"]).reshape(-1, k) & (weights > -torch.inf).any(1, keepdim=True)
        # Drawn whether it is due or not, so that what one group needs does not change the noise of another.
        chosen = ancestors(torch.where(due, weights, 0.0), self.resample, generator)
        if not bool(due.any()):
            return x, seen, carry
        own = torch.arange(weights.numel(), device=weights.device).reshape(-1, k)
        chosen = own[:, :1] + chosen
        rows = torch.where(due, chosen, own).flatten()
        evidence = torch.where(due.flatten(), self._evidence(weights.flatten()), 0.0)
        # Sums over a group are the same for all its particles, so copying rows leaves them as they are.
        carry = take_carry({**carry, "log_z": carry["log_z"] + evidence}, rows)
        carry["log_weights"] = torch.where(due.flatten(), 0.0, weights.flatten())
        carry["copied"] = due.flatten()
        return take_rows(x, rows), take_carry(seen, rows), carry

    def _poor(self, sizes: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        if isinstance(self.ess_threshold, str):
            return torch.full_like(sizes, self.ess_threshold == "always", dtype=torch.bool)
        return sizes < self.ess_threshold * self.num_particles

    def _sizes(self, weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return effective_size(weights.reshape(-1, self.num_particles)).repeat_interleave(self.num_particles)

    def _evidence(self, weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The log of the mean weight of each group, a row."""
        mean = weights.reshape(-1, self.num_particles).logsumexp(1) - log(self.num_particles)
        return mean.repeat_interleave(self.num_particles)
