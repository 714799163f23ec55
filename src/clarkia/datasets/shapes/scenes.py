"""What is to be seen: coloured shapes of two sizes on a grey ground, one scene or many as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clarkia.datasets.shapes.grammar import COLOURS, SHAPES, SIZES, Caption

Side: TypeAlias = Literal[32, 64]

PALETTE = np.array(
    [
        (230, 30, 30), (30, 190, 30), (40, 70, 240), (240, 220, 30),
        (220, 40, 220), (30, 210, 220), (250, 130, 20), (250, 250, 250),
    ],
    np.float32,
) / 127.5 - 1  # fmt: skip
"""The colours in the order of `COLOURS`, red, green and blue from -1 to 1."""

GROUND = np.float32(-0.75)
"""The grey of the background, from -1 to 1."""

RADII = {32: np.array([2.5, 4.0]), 64: np.array([3.5, 6.0])}
"""Radii of the sizes small and large, by the side of the picture in points."""

MAX_COUNT = {32: 8, 64: 15}
"""Most things in a scene, by the side of the picture."""

ATTRIBUTES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}


@dataclass(frozen=True)
class Thing:
    """One coloured shape.

    Attributes:
        shape: "circle", "square", "triangle" or "cross".
        colour: one of `COLOURS`.
        size: "small" or "large".
        x: centre in points from the left border.
        y: centre in points from the upper border.
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        side: side of its picture in points, 32 or 64.
        things: what it holds; a later one covers an earlier one.
        caption: what is said of it, None for a scene that nobody has described.
    """

    side: Side
    things: tuple[Thing, ...]
    caption: Caption | None = None


@dataclass(frozen=True, eq=False)
class Scenes:
    """n scenes of at most m things.

    Attributes:
        side: side of the pictures in points.
        shape: index into `SHAPES`, ``(n, m)``, -1 where there is no thing.
        colour: index into `COLOURS`, likewise.
        size: index into `SIZES`, likewise.
        x: centres in points from the left border, float64 ``(n, m)``.
        y: centres in points from the upper border.
    """

    side: Side
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    size: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is a thing, ``(n, m)``."""
        return self.shape >= 0

    @property
    def radius(self) -> NDArray[np.float64]:
        """Radii in points, ``(n, m)``; without meaning where there is no thing."""
        return RADII[self.side][self.size]

    def matching(
        self, *, shape: str | None = None, colour: str | None = None, size: str | None = None
    ) -> NDArray[np.bool_]:
        """Which things have the attributes named, bool ``(n, m)``.

        Raises:
            ValueError: no such shape, colour or size.
        """
        found = self.present
        for name, asked in (("shape", shape), ("colour", colour), ("size", size)):
            if asked is not None:
                if asked not in ATTRIBUTES[name]:
                    raise ValueError(f"{name}: expected one of {', '.join(ATTRIBUTES[name])}, found {asked!r}.")
                found = found & (getattr(self, name) == ATTRIBUTES[name].index(asked))
        return found

    def scene(self, row: int, caption: Caption | None = None) -> Scene:
        """One of the scenes, with something said of it."""
        things = [
            Thing(
                SHAPES[self.shape[row, j]],
                COLOURS[self.colour[row, j]],
                SIZES[self.size[row, j]],
                float(self.x[row, j]),
                float(self.y[row, j]),
            )
            for j in np.flatnonzero(self.present[row])
        ]
        return Scene(self.side, tuple(things), caption)

    def take(self, rows: Any) -> Scenes:
        """The scenes that an index picks."""
        return self.each(lambda part: part[rows])

    def each(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Scenes:
        """The scenes with a function applied to each of their arrays."""
        return Scenes(
            self.side,
            function(self.shape),
            function(self.colour),
            function(self.size),
            function(self.x),
            function(self.y),
        )


def stack(scenes: Sequence[Scene]) -> Scenes:
    """Scenes of one side as arrays.

    Raises:
        ValueError: no scene, pictures of different sides, or an attribute that does not exist.
    """
    sides = {scene.side for scene in scenes}
    if len(sides) != 1 or not sides <= set(RADII):
        raise ValueError(f"scenes: expected scenes of one side, 32 or 64, found {sorted(sides) or 'none'}.")
    width = max(1, *(len(scene.things) for scene in scenes))
    codes = {name: np.full((len(scenes), width), -1, np.int64) for name in ("shape", "colour", "size")}
    centres = {name: np.zeros((len(scenes), width)) for name in ("x", "y")}
    for row, scene in enumerate(scenes):
        for j, thing in enumerate(scene.things):
            for name, table in codes.items():
                value = getattr(thing, name)
                if value not in ATTRIBUTES[name]:
                    raise ValueError(f"{name}: expected one of {', '.join(ATTRIBUTES[name])}, found {value!r}.")
                table[row, j] = ATTRIBUTES[name].index(value)
            centres["x"][row, j], centres["y"][row, j] = thing.x, thing.y
    shape, colour, size = codes.values()
    return Scenes(scenes[0].side, shape, colour, size, centres["x"], centres["y"])
