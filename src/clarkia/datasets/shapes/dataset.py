"""Coloured shapes with captions, drawn when they are asked for."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict, final

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from clarkia import spaces
from clarkia._math.counters import uniforms
from clarkia.datasets.shapes.grammar import COLOURS, SHAPES, SIZES
from clarkia.datasets.shapes.laws import Law, Level, check_level, default_law, facts
from clarkia.datasets.shapes.placement import place
from clarkia.datasets.shapes.render import render, to_bytes
from clarkia.datasets.shapes.scenes import MAX_COUNT, Scene, Scenes, Side, stack
from clarkia.datasets.shapes.vocabulary import ALONE, AND, COLOUR, COUNT, SHAPE, SIZE, Claims

_VERSION = 1  # part of the fingerprint: to be raised when the same seed comes to mean other scenes
_NAMED = {  # which attributes the captions of a level name, size and colour; shapes always
    "single": (False, False), "colour": (False, True), "count": (False, True), "two": (False, False),
    "binding": (False, True), "relation": (False, True),
}  # fmt: skip
EMPTY_TOKEN = len(SHAPES) * len(COLOURS) * len(SIZES)


class Example(TypedDict):
    """One picture, what it shows and what is said of it."""

    image: Tensor
    caption: str
    scene: Scene


@final
@dataclass(frozen=True, eq=False)
class ColouredShapes:
    """Pictures of coloured shapes with captions: endless, exactly known, and judged without error.

    Example i is a function of the seed and i alone, for every i from 0 on; ``len`` only says how many a training run
    goes through, so examples beyond it are fresh ones to test on.

    Args:
        size: side of the pictures in points, 32 (up to 8 things) or 64 (up to 15).
        level: what the scenes hold and the captions say:
            "single", one thing by its shape; "colour", one thing by shape and colour; "count", one to many like things;
            "two", two things of different shapes; "binding", two things of different shapes and colours; "relation",
            two things of which one is left of, right of, above or below the other; "full", any of the grammar.
        seed: fixes everything drawn.
        law: what scenes hold; `default_law` of the level if not given.
        length: number of examples a training run goes through.

    Raises:
        ValueError: no such size or level, a law of another, or a length below one.
    """

    size: Side = 32
    level: Level = "single"
    seed: int = 0
    law: Law | None = None
    length: int = 50_000

    def __post_init__(self) -> None:
        check_level(self.level, self.size)
        if self.seed < 0 or self.length < 1:
            raise ValueError(f"seed, length: expected seed >= 0 and length >= 1, found {self.seed} and {self.length}.")
        law = default_law(self.level, self.size) if self.law is None else self.law
        if (law.level, law.side) != (self.level, self.size):
            raise ValueError(f"law: expected one of {self.level}, {self.size}, found {law.level}, {law.side}.")
        object.__setattr__(self, "law", law)

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """Scene number `index`, with its caption."""
        rows = _rows([index])
        drawn = self._facts(rows)
        return self._scenes(rows, *drawn).scene(0, self._claims(rows, *drawn).caption(0))

    def example(self, index: int) -> Example:
        """Example number `index`: its picture uint8 ``(3, size, size)``, caption and scene."""
        scene = self.scene(index)
        return {"image": self.images([index])[0], "caption": str(scene.caption), "scene": scene}

    def scenes(self, indices: Any) -> Scenes:
        """What the pictures show, as arrays of n rows."""
        rows = _rows(indices)
        return self._scenes(rows, *self._facts(rows))

    def images(self, indices: Any) -> UInt8[Tensor, "n 3 size size"]:
        """The pictures; red, green and blue from 0 to 255."""
        return torch.from_numpy(to_bytes(render(self.scenes(indices))))

    def captions(self, indices: Any) -> list[str]:
        """The captions."""
        rows = _rows(indices)
        return self._claims(rows, *self._facts(rows)).texts()

    def words(self, indices: Any) -> tuple[Int[Tensor, "n 14"], Bool[Tensor, "n 14"]]:
        """The captions as places in `WORDS`, and which of them are words rather than padding."""
        rows = _rows(indices)
        words = torch.from_numpy(self._claims(rows, *self._facts(rows)).words())
        return words, words > 0

    def slots(self, indices: Any) -> dict[str, Tensor]:
        """The scenes as a mixed state of the space `slot_space`, things in raster order.

        Returns:
            "count" int64 ``(n,)``, the number of things less one; "shape", "colour" and "size" int64 ``(n, m)``, with
            one class more for an empty slot; "position" float32 ``(n, m, 2)``, x and y from -1 to 1, 0 in empty slots.
        """
        scenes = _in_raster_order(self.scenes(indices))
        centres = np.stack([scenes.x, scenes.y], -1) / (self.size / 2) - 1
        codes = {"shape": (scenes.shape, SHAPES), "colour": (scenes.colour, COLOURS), "size": (scenes.size, SIZES)}
        return {
            "count": torch.from_numpy(scenes.present.sum(1) - 1),
            **{name: torch.from_numpy(np.where(code < 0, len(words), code)) for name, (code, words) in codes.items()},
            "position": torch.from_numpy((centres * scenes.present[..., None]).astype(np.float32)),
        }

    def tokens(self, indices: Any) -> Int[Tensor, "n m"]:
        """The things of the scenes in raster order, one token a slot.

        Returns:
            ``(shape * 8 + colour) * 2 + size``, from 0 to 63, and 64 (`EMPTY_TOKEN`) for an empty slot.
        """
        scenes = _in_raster_order(self.scenes(indices))
        codes = (scenes.shape * len(COLOURS) + scenes.colour) * len(SIZES) + scenes.size
        return torch.from_numpy(np.where(scenes.present, codes, EMPTY_TOKEN))

    def rows(self, indices: Any) -> dict[str, Tensor]:
        """A batch to train on: "image" as of `images`, "tokens" and "mask" as of `words`."""
        rows = _rows(indices)
        drawn = self._facts(rows)
        words = torch.from_numpy(self._claims(rows, *drawn).words())
        pictures = torch.from_numpy(to_bytes(render(self._scenes(rows, *drawn))))
        return {"image": pictures, "tokens": words, "mask": words > 0}

    def fingerprint(self) -> int:
        """A checksum of everything that the examples are a function of."""
        name = f"ColouredShapes {_VERSION} {self.size} {self.level} {self.seed} {self.length}"
        return zlib.crc32(self._law.probabilities.tobytes(), zlib.crc32(name.encode()))

    @property
    def slot_space(self) -> spaces.Mixed:
        """The space of `slots`."""
        m = self.num_slots
        return spaces.Mixed(
            count=spaces.Categorical((), num_classes=m),
            shape=spaces.Categorical((m,), num_classes=len(SHAPES) + 1),
            colour=spaces.Categorical((m,), num_classes=len(COLOURS) + 1),
            size=spaces.Categorical((m,), num_classes=len(SIZES) + 1),
            position=spaces.Continuous((m, 2)),
        )

    @property
    def num_slots(self) -> int:
        """Most things of a scene of this level."""
        if self.level in ("count", "full"):
            return MAX_COUNT[self.size]
        return 1 if self.level in ("single", "colour") else 2

    @cached_property
    def _law(self) -> Law:
        assert self.law is not None
        return self.law

    def _facts(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return facts(self.level, self._law.draw(uniforms(self.seed, rows, 0, stream=0)))

    def _scenes(self, rows: NDArray[np.int64], joint: NDArray[np.int64], groups: NDArray[np.int64]) -> Scenes:
        slot = np.arange(self.num_slots)
        second = slot >= groups[:, :1, COUNT]
        here = slot < groups[:, :, COUNT].sum(1, keepdims=True)
        shape, colour, size = (
            np.where(here, np.where(second, groups[:, 1:, axis], groups[:, :1, axis]), -1)
            for axis in (SHAPE, COLOUR, SIZE)
        )
        centres = place(self.size, shape, size, second, np.where(joint > AND, joint - AND - 1, -1), rows, self.seed)
        return Scenes(self.size, shape, colour, size, centres[..., 0], centres[..., 1])

    def _claims(self, rows: NDArray[np.int64], joint: NDArray[np.int64], groups: NDArray[np.int64]) -> Claims:
        if self.level == "full":
            named = uniforms(self.seed, rows, [0, 1], stream=1) < 0.5
            same = (joint != ALONE) & (groups[:, 0, SHAPE] == groups[:, 1, SHAPE])
            named[:, 1] |= same  # without colours the two phrases would be one
        else:
            named = np.broadcast_to(_NAMED[self.level], (len(rows), 2))
        said = groups.copy()
        for axis, column in ((SIZE, 0), (COLOUR, 1)):
            said[:, :, axis] = np.where(named[:, column, None], groups[:, :, axis], -1)
        return Claims(joint, said)


def _rows(indices: Any) -> NDArray[np.int64]:
    rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu") or (rows.size and rows.min() < 0):
        raise ValueError(f"indices: expected a list of whole numbers from 0 on, found {indices!r}.")
    return rows.astype(np.int64)


def _in_raster_order(scenes: Scenes) -> Scenes:
    """Things by the row of points that their centre lies in, then from left to right; empty slots last."""
    key = np.where(scenes.present, np.floor(scenes.y) * scenes.side + scenes.x, np.inf)
    order = np.argsort(key, axis=1, kind="stable")
    return scenes.each(lambda part: np.take_along_axis(part, order, 1))


def caption(scene: Scene) -> str:
    """What is said of a scene.

    Raises:
        ValueError: nothing is said of it, as of scenes that a judge has found.
    """
    if scene.caption is None:
        raise ValueError("scene: expected one of a data set, with a caption, found one that nobody has described.")
    return str(scene.caption)


def draw(scene: Scene | Sequence[Scene]) -> UInt8[Tensor, "n 3 size size"]:
    """Pictures of scenes of one side, ``(n, 3, side, side)``."""
    return torch.from_numpy(to_bytes(render(stack([scene] if isinstance(scene, Scene) else scene))))
