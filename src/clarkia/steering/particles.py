"""The outcome of steering: weighted points, what they say, and whether they can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.random import Noise, rand
from clarkia.spaces import State, map_blocks, take_rows
from clarkia.steering.resampling import Scheme, ancestors, effective_size


@dataclass(frozen=True, eq=False)
class Particles:
    """Groups of k weighted points, each group a sample of the target of its own.

    Attributes:
        x: The points, ``(groups * k, ...)`` or a dict of blocks; rows are ordered by group.
        log_weights: Normalised log-weights, float64 ``(groups, k)``.
        log_z: Estimate of ``log E_p[factor]``, the target's normaliser, float64 ``(groups,)``; minus infinity where
            no particle satisfies it. Its exponential is unbiased.
        ancestry: Which particle of the first generation each descends from, int64 ``(groups, k)``.
        ess: Effective size before each step and at the end, float64 ``(steps + 1, groups)``.
        resampled: Whether particles were copied at the step, bool ``(steps, groups)``.
    """

    x: State
    log_weights: Float[Tensor, "groups k"]
    log_z: Float[Tensor, " groups"]
    ancestry: Int[Tensor, "groups k"]
    ess: Float[Tensor, "steps groups"]
    resampled: Bool[Tensor, "steps groups"]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.log_weights.shape[0]

    @property
    def num_particles(self) -> int:
        """Particles a group."""
        return self.log_weights.shape[1]

    @property
    def num_ancestors(self) -> Int[Tensor, " groups"]:
        """How many particles of the first generation have descendants; few of them, few independent points."""
        ordered = self.ancestry.sort(1).values
        return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)

    def draw(self, num_samples: int = 1, *, generator: Noise = None) -> State:
        """Points of equal weight: each group's particles in proportion to their weights.

        Args:
            num_samples: Points a group, without repetition only as far as the weights allow.
            generator: Source of randomness.

        Returns:
            ``(groups * num_samples, ...)``, ordered by group.

        Raises:
            ValueError: A group in which no particle satisfies the target.
        """
        return take_rows(self.x, self._rows(num_samples, "systematic", generator))

    def mean(self, function: Callable[[State], Tensor] | None = None) -> Float[Tensor, "groups ..."]:
        """The weighted mean of a function of the points, a group.

        Args:
            function: ``function(x) -> (n, ...)``; by default the points themselves, for a continuous state.

        Raises:
            ValueError: A group in which no particle satisfies the target.
        """
        self._check_possible()
        values = self.x if function is None else function(self.x)
        if not isinstance(values, Tensor):
            raise ValueError(
                "function: expected one that turns this state, a dict of blocks, into numbers, found None."
            )
        grouped = values.double().unflatten(0, self.log_weights.shape)
        weights = self.log_weights.exp().reshape(*self.log_weights.shape, *(1,) * (values.ndim - 1))
        return (weights * grouped).sum(1)

    @property
    def best(self) -> State:
        """The particle of the largest weight of each group, ``(groups, ...)``: a choice, no draw of the target."""
        first = torch.arange(self.groups, device=self.log_weights.device) * self.num_particles
        return take_rows(self.x, first + self.log_weights.argmax(1))

    def chosen(self, score: Callable[[State], Float[Tensor, " n"]]) -> State:
        """The particle of each group that scores highest, ``(groups, ...)``: a choice, no draw of the target."""
        scores = score(self.x).double().reshape(self.log_weights.shape)
        first = torch.arange(self.groups, device=scores.device) * self.num_particles
        return take_rows(self.x, first + scores.argmax(1))

    def group(self, index: int) -> State:
        """The particles of one group, ``(k, ...)``."""
        k = self.num_particles
        return map_blocks(lambda block: block[index * k : (index + 1) * k], self.x)

    def _rows(self, num_samples: int, scheme: Scheme, generator: Noise) -> Int[Tensor, " n"]:
        self._check_possible()
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, found {num_samples}.")
        k = self.num_particles
        rounds = -(-num_samples // k)
        parts = [ancestors(self.log_weights, scheme, generator) for _ in range(rounds)]
        chosen = torch.cat(parts, 1)
        # Which of the drawn ones are kept must not depend on their order, which is that of the particles.
        keys = [rand((chosen.numel() // rounds,), generator, device=chosen.device) for _ in range(rounds)]
        order = torch.cat([key.reshape(self.groups, k) for key in keys], 1).argsort(1)
        chosen = chosen.gather(1, order)[:, :num_samples]
        return (chosen + k * torch.arange(self.groups, device=chosen.device)[:, None]).flatten()

    def _check_possible(self) -> None:
        lost = (self.log_z == -torch.inf).nonzero().flatten()
        if len(lost):
            raise ValueError(
                f"particles: none of the {self.num_particles} particles of group {int(lost[0])} satisfies the target; "
                "it is impossible or too rare for so few: ask for less, or use more particles."
            )


def summary(particles: Particles) -> str:
    """What to know before trusting the points, in one sentence."""
    size = float(effective_size(particles.log_weights).min())
    return (
        f"{particles.num_particles} particles are worth {size:.1f} at the end in the worst group "
        f"and descend from {int(particles.num_ancestors.min())} of the first generation"
    )
