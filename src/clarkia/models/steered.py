"""Drawing points that keep rules and earn a reward: whole draws rejected, or particles that are weighed on the way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from clarkia import steering
from clarkia.errors import DataError
from clarkia.models.wishes import Points, Wish, count, join, take
from clarkia.random import RowBlocks, choose, rand

LOOKS = 12
"""How often particles are weighed on their way, about."""

MOST_COPIES = 32
MOST_DRAWS = 16_384
"""Draws of one row before it is given up, and how many of them are made together at the most."""

SURE = 20
"""Draws of one row, in times of those that one in the mean is kept of: it is given up once in e^20."""

HOPELESS = 4096
"""Draws of which not one keeps the rules before all are given up."""

ATTEMPTS = 5
"""Runs of particles, each with twice as many, before a row that has none left is given up."""

RETRIED_TOGETHER = 1024
"""Particles that are rather drawn in vain than that a run is split for them."""

PILOT = 1024
"""Plain rows that tell how rare it is what was asked for, or what a reward is measured in."""

BLUR = 0.2
"""Least spread of what a particle may become, in deviations among the particles of a group."""

FLOOR = 20.0
"""How far below the best of its group the foreseen log-factor of a particle may be: nothing foreseen is certain."""

FEW = 0.1
"""Share of the particles that their weights should be worth, in the median row."""


Draw: TypeAlias = Callable[[int, int, NDArray[np.int64]], Points]
"""``draw(attempt, copies, rows)``: so many draws of each of the rows of these numbers, those of a row together."""


@dataclass(frozen=True, eq=False)
class Foresight:
    """What particles are weighed by on their way: the factor that each is foreseen to have in the end.

    Of a reward that is its mean over what a particle may become. Whether a rule will be kept is taken from how far
    those are beyond it: with their mean and their spread, the probability that a normal number is not. So there is a
    way down to a rule from far off, and the last weight is the exact factor all the same.

    Attributes:
        wish: what is wanted.
        shown: clean states as points.
        finished: the last states as points.
        look: which clean states are looked at.
        num_particles: particles a group.
    """

    wish: Wish
    shown: Callable[[Any], Points]
    finished: Callable[[Any], Points]
    look: steering.Foreseen
    num_particles: int

    def potential(self) -> steering.Twist:
        """The factors of a run."""
        return steering.Twist(self._log_psi, self._log_factor)

    def _log_psi(self, moment: steering.Moment) -> Float[Tensor, " n"]:
        looks = [self.shown(state) for state in self.look(moment)]
        rewards = torch.from_numpy(np.stack([self.wish.rewards(points) for points in looks]))
        value = rewards.logsumexp(0) - math.log(len(looks))
        value = value.reshape(-1, self.num_particles)
        excess = torch.from_numpy(np.stack([self.wish.excesses(points) for points in looks]))  # (looks, rules, n)
        for rule in excess.unbind(1):
            value = value + _log_kept(rule.reshape(len(looks), -1, self.num_particles))
        best = value.amax(1, keepdim=True)
        value = torch.maximum(value, torch.where(best > -torch.inf, best - FLOOR, 0.0))
        return value.flatten().to(device_of(moment.x))

    def _log_factor(self, x0: Any) -> Float[Tensor, " n"]:
        return self.wish.log_factor(self.finished(x0)).to(device_of(x0))


def _log_kept(excess: Float[Tensor, "looks groups k"]) -> Float[Tensor, "groups k"]:
    """The log-probability that each particle keeps a rule."""
    looks = len(excess)
    # Nobody knows how far a row without the cell is beyond the rule: as far as the farthest of its group.
    known = torch.where(excess.isnan(), -torch.inf, excess)
    farthest = known.amax((0, 2), keepdim=True).clamp(min=0.5)
    excess = torch.where(excess.isnan(), farthest, excess)
    mean = excess.mean(0)
    between = mean.var(1, keepdim=True, correction=0)
    if looks > 1:
        # The mean is one of few looks, and at the end, where looks hardly differ, particles still do.
        spread = ((1 + 1 / looks) * excess.var(0, correction=1).mean(1, keepdim=True) + BLUR**2 * between).sqrt()
    else:
        spread = between.sqrt()  # a single look says nothing of what else a particle may become
    sharp = torch.where(mean > 0, -FLOOR, 0.0)
    return torch.where(spread > 0, torch.special.log_ndtr(-mean / torch.where(spread > 0, spread, 1.0)), sharp)


def particles(
    denoiser: Any,
    process: Any,
    foresight: Foresight,
    *,
    rows: int,
    steps: int,
    **options: Any,
) -> tuple[steering.Particles, Points]:
    """One run, a group of particles a row, and its last points; options are those of `steering.run`, in `steps`."""
    with warnings.catch_warnings():
        # One draw is taken of each group, so few ancestors do no harm; what weights are worth is looked at by `chosen`.
        warnings.simplefilter("ignore", steering.CollapseWarning)
        found = steering.run(
            denoiser,
            process,
            foresight.potential(),
            num_particles=foresight.num_particles,
            groups=rows,
            every=max(1, steps // LOOKS),
            window=(1.0 - 1e-6, 0.0),  # at the very start all particles foresee the same
            **options,
        )
    return found, foresight.finished(found.x)


def chosen(
    run: Callable[[int, int, int, int], tuple[steering.Particles, Points]],
    wish: Wish,
    noise: Callable[[int, int, int], RowBlocks],
    plain: Callable[[int], Points],
    *,
    rows: int,
    num_particles: int,
    best: bool,
) -> Points:
    """A point for each row: one of its particles in proportion to their weights, or the best of them.

    Rows without any particle that keeps the rules are drawn again with twice as many, `ATTEMPTS` times at the most.

    Args:
        run: ``run(attempt, num_particles, first, rows)``: particles of some rows and the points they became.
        wish: what is wanted.
        noise: ``noise(attempt, first, rows)``, a row of it for each row.
        plain: so many draws without any wish.
        rows: how many.
        num_particles: particles a row.
        best: take the particle with the highest reward of those that keep the rules.

    Raises:
        DataError: some row has no particle left after all attempts.
    """
    drawn, good, made = None, np.zeros(rows, bool), 0
    for attempt in range(ATTEMPTS):
        k = num_particles * 2**attempt
        for first, some in _stretches(~good, RETRIED_TOGETHER // k):
            found, points = run(attempt, k, first, some)
            made += some * k
            log_weights = found.log_weights.cpu()
            alive = np.asarray((log_weights > -torch.inf).any(1))
            place = _best(wish, points, log_weights) if best else _drawn(log_weights, noise(attempt, first, some))
            alive &= ~good[first : first + some]
            fresh = take(points, np.arange(some) * k + place)
            if drawn is None:
                drawn = fresh
                _warn_of_collapse(found)
            else:
                places = np.arange(rows)
                places[first : first + some][alive] = rows + np.flatnonzero(alive)
                drawn = take(join(drawn, fresh), places)
            good[first : first + some] |= alive
        if good.all() or (made >= HOPELESS and not good.any()):
            break
    if good.all() and drawn is not None:
        return drawn
    points = plain(PILOT)
    kept = int(np.isfinite(wish.log_factor(points).numpy()).sum())
    advice = "loosen them, or use more particles"
    raise DataError(_hopeless(wish, int((~good).sum()), rows, kept, count(points), advice))


def _stretches(pending: NDArray[np.bool_], gap: int) -> list[tuple[int, int]]:
    """First rows and lengths of stretches that hold all pending rows, and others only in gaps up to so many."""
    places = np.flatnonzero(pending)
    parts = np.split(places, np.flatnonzero(np.diff(places) > gap + 1) + 1)
    return [(int(part[0]), int(part[-1] - part[0]) + 1) for part in parts if len(part)]


def _best(wish: Wish, points: Points, log_weights: Tensor) -> NDArray[np.int64]:
    scores = wish.rewards(points).reshape(log_weights.shape)
    return np.where(np.isfinite(log_weights.numpy()), scores, -np.inf).argmax(1)


def _drawn(log_weights: Tensor, noise: RowBlocks) -> NDArray[np.int64]:
    some = (log_weights > -torch.inf).any(1, keepdim=True)
    return choose(torch.where(some, log_weights, 0.0).log_softmax(1), rand((noise.rows,), noise)).numpy()


def first_kept(draw: Draw, wish: Wish, rows: int, *, together: int) -> Points:
    """A point for each row: the first of its draws that keeps the rules, which is exact under the model.

    Args:
        draw: draws of some rows.
        wish: what is wanted.
        rows: how many.
        together: most draws that are made at once.

    Raises:
        DataError: a row has none among so many draws.
    """
    found = tried(draw, wish.kept, rows, together=together)
    lost = int((~found.good).sum())
    if lost:
        advice = "loosen them, or ask for particles (exactness 'asymptotic')"
        raise DataError(_hopeless(wish, lost, rows, found.kept, found.made, advice))
    return found.points


@dataclass(frozen=True, eq=False)
class Tried:
    """What came of drawing rows until each had a point that is kept.

    Attributes:
        points: a point a row; of a row without one that is kept, the first.
        good: which rows have one, ``(n,)``.
        kept: draws that were kept.
        made: draws.
    """

    points: Points
    good: NDArray[np.bool_]
    kept: int
    made: int


def tried(
    draw: Draw, keeps: Callable[[Points], NDArray[np.bool_]], rows: int, *, together: int, most: int | None = None
) -> Tried:
    """Draw every row until one of its draws is kept.

    Args:
        draw: draws of some rows.
        keeps: which points are kept.
        rows: how many.
        together: most draws that are made at once.
        most: draws of a row; by default so many that hardly a row is given up, up to `MOST_DRAWS`.
    """
    good, place = np.zeros(rows, bool), np.zeros(rows, np.int64)
    if not rows:
        return Tried(draw(0, 1, place), good, 0, 0)
    pool: list[Points] = []
    pooled = kept = made = of_each = attempt = 0
    while not good.all() and of_each < (limit := _enough(kept, made) if most is None else most):
        copies = max(1, min(MOST_COPIES, of_each, limit - of_each))
        pending, size = np.flatnonzero(~good), max(1, together // copies)
        for part in np.split(pending, range(size, len(pending), size)):
            fresh = draw(attempt, copies, part)
            met = keeps(fresh).reshape(len(part), copies)
            kept, made = kept + int(met.sum()), made + met.size
            found = np.flatnonzero(met.any(1) | (attempt == 0))
            pool.append(take(fresh, found * copies + met[found].argmax(1)))
            place[part[found]] = pooled + np.arange(len(found))
            pooled += len(found)
            good[part] = met.any(1)
        of_each, attempt = of_each + copies, attempt + 1
    return Tried(take(join(*pool), place), good, kept, made)


def _enough(kept: int, made: int) -> int:
    """Draws of one row that do, of such an acceptance so far; none where nothing is ever kept."""
    if not kept:
        return 0 if made >= HOPELESS else MOST_DRAWS
    return min(MOST_DRAWS, SURE * made // kept + 1)


def _warn_of_collapse(found: steering.Particles) -> None:
    k = found.num_particles
    sizes = found.ess.median(1).values
    worst = float(sizes.min())
    if k > 1 and 0 < worst < max(FEW * k, 1.01):  # where it is 0 nothing was drawn, which is said elsewhere
        warnings.warn(
            f"steering: in the median row the {k} particles are worth {worst:.1f} (ESS), so what is drawn is far from "
            "the law that was asked for; use more particles (num_particles), a smaller reward_scale, or looser "
            "constraints.",
            steering.CollapseWarning,
            stacklevel=2,
        )


def _hopeless(wish: Wish, lost: int, rows: int, kept: int, tried: int, advice: str) -> str:
    rules = " and ".join(wish.rules) or "the reward"
    share = f"{kept:,} of {tried:,} plain draws meet" if kept else f"none of {tried:,} plain draws meets"
    about = f"of about {kept / tried:.1g}" if kept else f"below {3 / max(tried, 1):.1g}"
    return (
        f"{lost:,} of {rows:,} found no draw that meets {rules}: {share} them, an acceptance {about}; they are "
        f"impossible or too rare under the model, so {advice}."
    )


def copied(rows: NDArray[np.int64], copies: int) -> NDArray[np.int64]:
    """The numbers of so many draws of each row, those of a row together."""
    return (rows[:, None] * copies + np.arange(copies)).flatten()


def device_of(x: Any) -> torch.device:
    """Where a state is."""
    return (x if isinstance(x, Tensor) else next(iter(x.values()))).device
