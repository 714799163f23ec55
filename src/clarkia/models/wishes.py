"""What is wanted of drawn rows, pictures or texts beyond conditions: that they keep rules, that they earn a reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from clarkia.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Points: TypeAlias = Any
"""Finished data as a user sees them: an Arrow table, an array of pictures, a list of texts."""

Exactness: TypeAlias = Literal["exact", "asymptotic", "heuristic"]

NUM_PARTICLES = 16


@dataclass(frozen=True, eq=False)
class Wish:
    """What is wanted of points.

    Attributes:
        rules: by name, functions of points that say how far each is beyond a rule, ``(n,)``: above zero or NaN where
            it is broken.
        reward: a function of points, a number each, or None.
        scale: how much the reward counts: the law of points is tilted by ``exp(scale * reward)``.
    """

    rules: dict[str, Callable[[Points], Floats]]
    reward: Callable[[Points], Floats] | None = None
    scale: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.rules) or self.reward is not None

    def kept(self, points: Points) -> NDArray[np.bool_]:
        """Which points keep all rules."""
        kept = np.ones(count(points), bool)
        for excess in self.rules.values():
            kept &= excess(points) <= 0
        return kept

    def rewards(self, points: Points) -> Floats:
        """The scaled reward of each point, zeros without one; minus infinity where it excludes a point."""
        if self.reward is None or not self.scale:
            return np.zeros(count(points))
        rewards = self.reward(points)
        return np.where(rewards == -np.inf, rewards, self.scale * rewards)  # excluded whatever the sign of the scale

    def log_factor(self, points: Points) -> Float[Tensor, " n"]:
        """The logarithm of the factor that tilts the law: of points that break a rule, minus infinity."""
        return torch.from_numpy(np.where(self.kept(points), self.rewards(points), -np.inf))

    def excesses(self, points: Points) -> NDArray[np.float64]:
        """How far each point is beyond each rule, ``(rules, n)``."""
        found = [excess(points) for excess in self.rules.values()]
        return np.stack(found) if found else np.zeros((0, count(points)))


@dataclass(frozen=True, eq=False)
class Steering:
    """A wish and how it is met.

    Attributes:
        wish: what is wanted.
        exactness: how; see `TableModel.sample`.
        num_particles: particles a point.
    """

    wish: Wish
    exactness: Exactness = "asymptotic"
    num_particles: int = NUM_PARTICLES

    @property
    def by_particles(self) -> bool:
        """Whether points are drawn by particles."""
        return bool(self.wish) and self.exactness != "exact"

    @classmethod
    def of(
        cls,
        *,
        constraints: Sequence[Any] | None = None,
        reward: Callable[[Any], Any] | None = None,
        reward_scale: float = 1.0,
        num_particles: int = NUM_PARTICLES,
        exactness: Exactness = "asymptotic",
    ) -> Steering:
        """What a user asks of pictures or texts, with functions of them.

        Raises:
            DataError: something that cannot be asked.
        """
        check_question(exactness, num_particles, reward, reward_scale)
        if constraints is not None and not isinstance(constraints, list | tuple):
            raise DataError(f"constraints: expected a list, found {constraints!r}.")
        rules = callable_rules(constraints or (), _as_it_is)
        return cls(Wish(rules, callable_reward(reward, _as_it_is), reward_scale), exactness, num_particles)


def check_question(exactness: str, num_particles: int, reward: object, reward_scale: float) -> None:
    """Raise `DataError` for a way of steering that cannot be."""
    choices = get_args(Exactness)
    if exactness not in choices:
        raise DataError(f"exactness: expected one of {', '.join(choices)}, found {exactness!r}.")
    if isinstance(num_particles, bool) or not isinstance(num_particles, int | np.integer) or num_particles < 1:
        raise DataError(f"num_particles: expected a positive whole number, found {num_particles!r}.")
    if not np.isfinite(reward_scale):
        raise DataError(f"reward_scale: expected a finite number, found {reward_scale}.")
    if exactness == "exact" and reward is not None:
        raise DataError(
            "exactness: 'exact' is for conditions and constraints; a reward is asked for with 'asymptotic', by "
            "particles, or 'heuristic', the best of them."
        )
    if exactness == "heuristic" and reward is None:
        raise DataError("exactness: 'heuristic' takes the particle of the highest reward; give a reward.")


def check_steps(num_steps: int | None) -> None:
    """Raise `DataError` for a number of solver steps that cannot be."""
    if num_steps is not None and num_steps < 1:
        raise DataError(f"num_steps: expected a positive whole number, or None for the default, found {num_steps}.")


def callable_rules(rules: Sequence[Any], show: Callable[[Points], Any]) -> dict[str, Callable[[Points], Floats]]:
    """Functions of a user that say of each point whether it keeps a rule, as those of a `Wish`.

    Args:
        rules: functions of what is shown.
        show: what they are shown of points.

    Raises:
        DataError: something that cannot be called.
    """
    found: dict[str, Callable[[Points], Floats]] = {}
    for number, rule in enumerate(rules):
        if not callable(rule):
            raise DataError(f"constraints: expected functions that say which points keep a rule, found {rule!r}.")
        name = f"constraint {number + 1} ({getattr(rule, '__name__', type(rule).__name__)})"
        found[name] = _broken(rule, show, name)
    return found


def callable_reward(reward: Any, show: Callable[[Points], Any]) -> Callable[[Points], Floats] | None:
    """A user's reward as that of a `Wish`, with every answer checked.

    Raises:
        DataError: it cannot be called; in use an answer that is not one number each, a NaN or infinity.
    """
    if reward is None:
        return None
    if not callable(reward):
        raise DataError(f"reward: expected a function of what is drawn, found {reward!r}.")
    return lambda points: numbers_of(reward(show(points)), count(points), "reward")


def numbers_of(values: Any, rows: int, name: str) -> Floats:
    """What a user's function answered, as float64 ``(rows,)``.

    Raises:
        DataError: another shape, no numbers, a NaN or plus infinity; minus infinity excludes a point.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name}: expected a number each, found {type(values).__name__} of something else.") from None
    if found.shape != (rows,):
        raise DataError(f"{name}: expected one number each, shape ({rows},), found shape {found.shape}.")
    bad = np.flatnonzero(np.isnan(found) | (found == np.inf))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} of {rows:,} answers are not finite, the first is {found[bad[0]]}; return a number "
            "for whatever may be drawn, empty cells included, or minus infinity for what is to be excluded."
        )
    return found


def count(points: Points) -> int:
    """How many points there are."""
    return points.num_rows if hasattr(points, "num_rows") else len(points)


def take(points: Points, rows: NDArray[np.int64]) -> Points:
    """Some of the points."""
    if hasattr(points, "num_rows"):
        return points.take(rows)
    return [points[row] for row in rows] if isinstance(points, list) else points[rows]


def join(*parts: Points) -> Points:
    """Points after others."""
    if hasattr(parts[0], "num_rows"):
        import pyarrow as pa

        return pa.concat_tables(parts)
    return [point for part in parts for point in part] if isinstance(parts[0], list) else np.concatenate(parts)


def _as_it_is(points: Points) -> Points:
    return points


def _broken(rule: Callable[[Any], Any], show: Callable[[Points], Any], name: str) -> Callable[[Points], Floats]:
    def broken(points: Points) -> Floats:
        kept = numbers_of(rule(show(points)), count(points), name)
        wrong = np.flatnonzero((kept != 0) & (kept != 1))
        if len(wrong):
            raise DataError(f"{name}: expected true or false each, found {kept[wrong[0]]}.")
        return 0.5 - kept

    return broken
