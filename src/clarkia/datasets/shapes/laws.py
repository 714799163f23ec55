"""The law of what a scene holds, as a table over its attributes: exact, and open to any bias.

Where things go is drawn after what they are, so the table is the law of the data and nothing of it is lost to things
that did not fit: what does not fit has probability zero in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from clarkia.datasets.shapes.grammar import COLOURS, COUNTS, RELATIONS, SHAPES, SIZES
from clarkia.datasets.shapes.placement import CROWDED, footprint
from clarkia.datasets.shapes.scenes import MAX_COUNT, RADII, Side
from clarkia.datasets.shapes.vocabulary import ALONE, AND, COLOUR, COUNT, JOINTS, SHAPE, SIZE

Level: TypeAlias = Literal["single", "colour", "count", "two", "binding", "relation", "full"]
LEVELS: tuple[Level, ...] = get_args(Level)

_THING = ("size", "colour", "shape")
_THINGS = (*_THING, "size_2", "colour_2", "shape_2")
AXES: dict[Level, tuple[str, ...]] = {
    "single": _THING,
    "colour": _THING,
    "count": ("count", *_THING),
    "two": _THINGS,
    "binding": _THINGS,
    "relation": ("relation", *_THINGS),
    "full": ("relation", "count", *_THING, "count_2", "size_2", "colour_2", "shape_2"),
}
"""The axes of the law of each level; those that end in _2 are the second phrase's."""

_CROWDED_BY_SIDE = 0.25  # as `CROWDED`, for things that a relation parts
_LARGE = 1  # index of the size that is left out where it would not fit


@dataclass(frozen=True, eq=False)
class Law:
    """Probabilities of everything a scene can be.

    Attributes:
        level: the level it belongs to.
        side: side of the pictures in points.
        probabilities: float64, one axis for each of `axes`, summing to one.
    """

    level: Level
    side: Side
    probabilities: NDArray[np.float64]

    def __post_init__(self) -> None:
        check_level(self.level, self.side)
        table = np.asarray(self.probabilities, np.float64)
        shape = tuple(len(self.values(axis)) for axis in self.axes)
        if table.shape != shape:
            raise ValueError(f"probabilities: expected shape {shape} for axes {self.axes}, found {table.shape}.")
        if not (np.isfinite(table).all() and table.min() >= 0 and abs(table.sum() - 1) < 1e-9):
            raise ValueError(
                f"probabilities: expected none below zero and a sum of one, found {table.min()} and {table.sum()}."
            )
        wrong = np.argwhere((table > 0) & ~possible(self.level, self.side))
        if len(wrong):
            raise ValueError(
                f"probabilities: expected zero for what cannot be, found {self._words(wrong[0])} possible."
            )
        object.__setattr__(self, "probabilities", table)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return AXES[self.level]

    def values(self, axis: str) -> tuple[str, ...]:
        """What the places along an axis stand for.

        Raises:
            ValueError: the law has no such axis.
        """
        if axis not in self.axes:
            raise ValueError(f"axis: expected one of {', '.join(self.axes)}, found {axis!r}.")
        return _values(self.level, self.side, axis)

    def marginal(self, *axes: str) -> NDArray[np.float64]:
        """Probabilities over some of the axes, in the order asked for."""
        places = [self._place(axis) for axis in axes]
        rest = tuple(place for place in range(len(self.axes)) if place not in places)
        order = np.argsort(np.argsort(places))
        return self.probabilities.sum(rest).transpose(order)

    def given(self, **values: str) -> Law:
        """The law given the values of some axes.

        Raises:
            ValueError: no such axis or value, or one of probability zero.
        """
        weights = {}
        for axis, value in values.items():
            if value not in self.values(axis):
                raise ValueError(f"{axis}: expected one of {', '.join(self.values(axis))}, found {value!r}.")
            weights[axis] = np.array([float(word == value) for word in self.values(axis)])
        return self.biased(weights)

    def biased(self, weights: Mapping[str | tuple[str, ...], Any]) -> Law:
        """The law with its probabilities multiplied by weights and normalised anew.

        Args:
            weights: by the name of an axis, or by several names: weights not below zero with these axes, so that
                ``{("shape", "colour"): table}`` makes colour go with shape and a zero in it leaves a pair out.

        Raises:
            ValueError: no such axis, weights of another shape or below zero, or nothing left.
        """
        table = self.probabilities
        for names, factor in weights.items():
            names = (names,) if isinstance(names, str) else tuple(names)
            places = [self._place(name) for name in names]
            factor = np.asarray(factor, np.float64)
            shape = tuple(len(self.values(name)) for name in names)
            if factor.shape != shape or not (np.isfinite(factor).all() and (factor >= 0).all()):
                raise ValueError(f"weights: expected {shape} finite numbers, none below zero, for {names}.")
            order = np.argsort(places)
            table = table * np.expand_dims(
                factor.transpose(order), tuple(axis for axis in range(len(self.axes)) if axis not in places)
            )
        if not table.sum() > 0:
            raise ValueError("weights: expected something of positive probability to be left, found nothing.")
        return Law(self.level, self.side, table / table.sum())

    def draw(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cells at which the distribution function first exceeds uniform numbers ``(n,)``: ``(n, axes)``."""
        sums = self._sums
        # The last sum may fall short of one by rounding; no number may lie beyond the last possible cell.
        flat = np.searchsorted(sums, np.minimum(numbers, np.nextafter(1.0, 0.0)) * sums[-1], side="right")
        return np.stack(np.unravel_index(flat, self.probabilities.shape), -1).astype(np.int64)

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        return np.cumsum(self.probabilities)

    def _place(self, axis: str) -> int:
        self.values(axis)
        return self.axes.index(axis)

    def _words(self, cell: Sequence[int]) -> str:
        return ", ".join(self.values(axis)[place] for axis, place in zip(self.axes, cell, strict=True))


def default_law(level: Level, side: Side) -> Law:
    """The law in which everything that can be is as likely as everything else.

    All counts, colours and shapes of the level "count" are equally likely, with a size that fits; the level "full" has
    one phrase, "and" and a relation in equal shares.
    """
    check_level(level, side)
    table = possible(level, side).astype(np.float64)
    if level == "count":
        table /= table.sum(AXES[level].index("size"), keepdims=True)
    elif level == "full":
        shares = np.array([1 / 3, 1 / 3, *[1 / 3 / len(RELATIONS)] * len(RELATIONS)])
        table *= (shares / table.sum(tuple(range(1, table.ndim)))).reshape(-1, *[1] * (table.ndim - 1))
    return Law(level, side, table / table.sum())


def possible(level: Level, side: Side) -> NDArray[np.bool_]:
    """Which cells of the law of a level can be: all that fits, and whose captions keep its two phrases apart."""
    axes = AXES[level]
    grid = dict(zip(axes, np.ix_(*(np.arange(len(_values(level, side, axis))) for axis in axes)), strict=True))
    one = np.ones([1] * len(axes), np.int64)
    counts = [grid[name] + 1 if name in grid else one for name in ("count", "count_2")]
    joint = grid.get("relation", np.zeros_like(one)) + (AND + 1 if level == "relation" else 0)
    if level in ("two", "binding"):
        joint = joint + AND
    circle = footprint(side)
    filled = counts[0] * circle[grid["size"], grid["shape"]]
    if "shape_2" not in grid:
        # Small things always find a place, if slowly; large ones where they do so with ease.
        return np.broadcast_to((grid["size"] != _LARGE) | (filled <= CROWDED), _shape(level, side))
    alone = joint == ALONE
    filled = filled + np.where(alone, 0, counts[1] * circle[grid["size_2"], grid["shape_2"]])
    crowd = np.where(joint > AND, _CROWDED_BY_SIDE, CROWDED)
    fits = (alone & (grid["size"] != _LARGE)) | (filled <= crowd)
    fits = fits & (alone | (counts[0] + counts[1] <= MAX_COUNT[side]))
    shapes, colours = grid["shape"] != grid["shape_2"], grid["colour"] != grid["colour_2"]
    apart = {"two": shapes, "binding": shapes & colours}.get(level, shapes | colours)
    blank = one.astype(bool)
    for name in axes:
        blank = blank & (grid[name] == 0) if name.endswith("_2") else blank
    return np.broadcast_to(fits & np.where(alone, blank, apart), _shape(level, side))


def facts(level: Level, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What cells of the law of a level stand for.

    Args:
        level: the level.
        cells: ``(n, axes)``.

    Returns:
        Index into `JOINTS`, ``(n,)``, and count, size, colour and shape of both groups, ``(n, 2, 4)``, count 0 and -1
        for a group that is absent.
    """
    column = {axis: cells[:, place] for place, axis in enumerate(AXES[level])}
    if level == "relation":
        joint = column["relation"] + AND + 1
    else:
        joint = column.get("relation", np.full(len(cells), AND if "shape_2" in column else ALONE))
    groups = np.full((len(cells), 2, 4), -1, np.int64)
    for group, suffix in enumerate(("", "_2")):
        groups[:, group, COUNT] = column.get(f"count{suffix}", 0) + 1
        for place, name in ((SIZE, "size"), (COLOUR, "colour"), (SHAPE, "shape")):
            groups[:, group, place] = column.get(f"{name}{suffix}", -1)
    groups[joint == ALONE, 1] = 0, -1, -1, -1
    return joint, groups


def check_level(level: Any, side: Any) -> None:
    """Raise ``ValueError`` unless there are such a level and such a side."""
    if level not in LEVELS:
        raise ValueError(f"level: expected one of {', '.join(LEVELS)}, found {level!r}.")
    if side not in RADII:
        raise ValueError(f"size: expected 32 or 64, found {side!r}.")


def _values(level: Level, side: Side, axis: str) -> tuple[str, ...]:
    name = axis.removesuffix("_2")
    if name == "relation":
        return RELATIONS if level == "relation" else JOINTS
    return {"count": COUNTS[: MAX_COUNT[side]], "size": SIZES, "colour": COLOURS, "shape": SHAPES}[name]


def _shape(level: Level, side: Side) -> tuple[int, ...]:
    return tuple(len(_values(level, side, axis)) for axis in AXES[level])
