"""What a picture shows: an exact judge that finds the things in it without having been trained on anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia.datasets.shapes.geometry import SUB, coverage, patch_size
from clarkia.datasets.shapes.grammar import COLOURS, SHAPES, SIZES, Caption
from clarkia.datasets.shapes.render import corner, render, span
from clarkia.datasets.shapes.scenes import GROUND, PALETTE, RADII, Scenes, Side
from clarkia.datasets.shapes.truth import satisfied, stands
from clarkia.datasets.shapes.vocabulary import claims

STRICT, LENIENT = 0.45, 0.2
"""Two thresholds of `Judge.least_area`; soft or speckled pictures are to be judged at both."""

_CHUNK = 2048
_SMALLEST = 0.6 * np.pi  # area of the unit shapes in whole points, from below
_FLAT = np.zeros((3, 3, 3), bool)
_FLAT[1] = True  # eight neighbours in a picture, none in the next


class _Things(NamedTuple):
    """k things found: the number of their picture, attributes and centres, ``(k,)`` each."""

    picture: NDArray[np.int64]
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    size: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def moved(self, start: int) -> _Things:
        """The same with numbers of pictures counted from a start."""
        return self._replace(picture=self.picture + start)


@dataclass(frozen=True)
class Judge:
    """A map from pictures to the scenes they show.

    Every point takes the nearest colour of the palette; points that touch and are not ground make a thing; most of them
    give its colour; and the shape and size are those of the template, drawn at its centre of mass, that is closest to
    it. Things that touch are one thing, as they are to the eye: a generator that merges them has miscounted.

    Args:
        side: side of the pictures in points, 32 or 64.
        least_area: smaller patches are overlooked; as a share of the smallest thing's area.

    Raises:
        ValueError: no such side, or a share that is not between 0 and 1.
    """

    side: Side = 32
    least_area: float = STRICT

    def __post_init__(self) -> None:
        if self.side not in RADII:
            raise ValueError(f"side: expected 32 or 64, found {self.side!r}.")
        if not 0 <= self.least_area <= 1:
            raise ValueError(f"least_area: expected a share from 0 to 1, found {self.least_area!r}.")

    def __call__(self, pictures: Any) -> Scenes:
        """Find the things in pictures.

        Args:
            pictures: uint8, or floating numbers from -1 to 1, ``(n, 3, side, side)``.

        Returns:
            The scenes, the things of each in the order of their uppermost points.

        Raises:
            ValueError: pictures of another shape, or numbers that are not finite.
        """
        points = self._points(pictures)
        starts = range(0, len(points), _CHUNK)
        found = [self._find(points[start : start + _CHUNK]).moved(start) for start in starts]
        return _gathered(self.side, len(points), found)

    def count(
        self, pictures: Any, *, shape: str | None = None, colour: str | None = None, size: str | None = None
    ) -> Tensor:
        """How many things of the attributes named each picture shows, int64 ``(n,)``."""
        return torch.from_numpy(self._seen(pictures).matching(shape=shape, colour=colour, size=size).sum(1))

    def colours(self, pictures: Any) -> Tensor:
        """How many things of each of `COLOURS` each picture shows, int64 ``(n, 8)``."""
        scenes = self._seen(pictures)
        return torch.from_numpy((scenes.colour[:, :, None] == np.arange(len(COLOURS))).sum(1))

    def relation(self, pictures: Any, first: dict[str, str], second: dict[str, str]) -> Tensor:
        """In which of `RELATIONS` all of some things stand to all of others, by more than 2 points.

        Args:
            pictures: n of them, or scenes.
            first: attributes of the things that stand, by name: "shape", "colour", "size".
            second: attributes of those they stand to.

        Returns:
            bool ``(n, 4)``; false where either are absent.
        """
        scenes = self._seen(pictures)
        return torch.from_numpy(stands(scenes, scenes.matching(**first), scenes.matching(**second)))

    def satisfies(self, pictures: Any, captions: str | Caption | Sequence[str | Caption]) -> Tensor:
        """Whether pictures show all that captions say and nothing else, bool ``(n,)``.

        Args:
            pictures: n of them, or scenes.
            captions: one for all, or n.

        Raises:
            DataError: a text is no caption.
            ValueError: another number of captions.
        """
        scenes = self._seen(pictures)
        many = [captions] * len(scenes) if isinstance(captions, str | Caption) else captions
        if len(many) != len(scenes):
            raise ValueError(f"captions: expected {len(scenes)}, one a picture, found {len(many)}.")
        return torch.from_numpy(satisfied(scenes, claims(many)))

    def realism(self, pictures: Any) -> Tensor:
        """Minus the root mean square of what the scene found leaves unexplained of each picture, float64 ``(n,)``."""
        points = self._points(pictures)
        residual = points - render(self(pictures))
        return torch.from_numpy(-np.sqrt((residual.astype(np.float64) ** 2).mean((1, 2, 3))))

    def _seen(self, pictures: Any) -> Scenes:
        return pictures if isinstance(pictures, Scenes) else self(pictures)

    def _points(self, pictures: Any) -> NDArray[np.float32]:
        array = pictures.detach().cpu().float().numpy() if isinstance(pictures, Tensor) else np.asarray(pictures)
        whole = pictures.dtype in (torch.uint8, np.uint8)
        if array.ndim != 4 or array.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"pictures: expected shape (n, 3, {self.side}, {self.side}), found {array.shape}.")
        array = array.astype(np.float32) / np.float32(127.5) - 1 if whole else array.astype(np.float32)
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all((1, 2, 3)))[0])
            raise ValueError(f"pictures: expected finite numbers, found a NaN or infinity in row {row}.")
        return array

    def _find(self, points: NDArray[np.float32]) -> _Things:
        """The things in some pictures."""
        from scipy import ndimage

        nearest = nearest_colours(points)
        labels = np.empty(nearest.shape, np.int32)
        ndimage.label(nearest < len(COLOURS), structure=_FLAT, output=labels)
        area = np.bincount(labels.ravel())
        kept = area >= self.least_area * _SMALLEST * RADII[self.side][0] ** 2
        kept[0] = False
        label = (np.cumsum(kept) * kept)[labels]
        k = int(kept.sum())
        votes = np.bincount(
            label.ravel() * (len(COLOURS) + 1) + nearest.ravel(), minlength=(k + 1) * (len(COLOURS) + 1)
        )
        colour = votes.reshape(k + 1, -1)[1:, :-1].argmax(1)
        # One point around a thing is still its own: half covered points lie on either side of the nearest colour.
        around = ndimage.maximum_filter(label, size=(1, 3, 3))
        label = np.where(label == 0, around, label)
        return self._recognise(points, label, colour)

    def _recognise(self, points: NDArray[np.float32], label: NDArray[np.int64], colour: NDArray[np.int64]) -> _Things:
        """Give each labelled thing its centre, shape and size."""
        row, top, left = np.nonzero(label)
        thing = label[row, top, left] - 1
        away = PALETTE[colour] - GROUND
        share = ((points[row, :, top, left] - GROUND) * (away / (away**2).sum(1, keepdims=True))[thing]).sum(1)
        share = np.clip(share, 0, 1)
        k = len(colour)
        mass = np.maximum(np.bincount(thing, share, k), 1e-9)  # a thing of noise alone may weigh nothing
        x = np.bincount(thing, share * (left + 0.5), k) / mass
        y = np.bincount(thing, share * (top + 0.5), k) / mass
        picture = np.zeros(k, np.int64)
        picture[thing] = row
        soft = np.zeros(label.shape, np.float32)
        soft[row, top, left] = share
        shape, size = self._closest(soft, label, picture, x, y)
        return _Things(picture, shape, colour, size, x, y)

    def _closest(
        self,
        soft: NDArray[np.float32],
        label: NDArray[np.int64],
        picture: NDArray[np.int64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shape and size of the template with the least square distance from each thing's soft mask."""
        patch, k = patch_size(RADII[self.side].max()) + 2, len(x)
        left, top = corner(x, patch, self.side), corner(y, patch, self.side)
        place = (picture[:, None, None], span(top, patch)[:, :, None], span(left, patch)[:, None, :])
        mask = np.where(label[place] == np.arange(1, k + 1)[:, None, None], soft[place], 0)
        distance = np.empty((k, len(SHAPES), len(SIZES)), np.float32)
        for size, radius in enumerate(RADII[self.side]):
            for shape in range(len(SHAPES)):
                counts = coverage(np.full(k, shape), np.full(k, radius), x - left, y - top, patch)
                distance[:, shape, size] = ((mask - counts * np.float32(1 / SUB**2)) ** 2).sum((1, 2))
        best = distance.reshape(k, len(SHAPES) * len(SIZES)).argmin(1)
        return best // len(SIZES), best % len(SIZES)


def nearest_colours(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the palette's colour nearest to every point, the number of colours for the ground: ``(n, h, w)``."""
    known = np.concatenate([PALETTE, np.full((1, 3), GROUND)])
    best = np.full((len(points), *points.shape[2:]), np.inf, np.float32)
    nearest = np.zeros(best.shape, np.int64)
    for code, (red, green, blue) in enumerate(known):
        # The squared distance less the point's own square, which is the same for every colour.
        distance = (red * red + green * green + blue * blue) - 2 * (
            red * points[:, 0] + green * points[:, 1] + blue * points[:, 2]
        )
        closer = distance < best
        np.copyto(best, distance, where=closer)
        nearest[closer] = code
    return nearest


def _gathered(side: Side, n: int, found: Sequence[_Things]) -> Scenes:
    """Things as the scenes of n pictures, in the order they were found in."""
    none = np.empty(0, np.int64)
    found = [_Things(none, none, none, none, none.astype(np.float64), none.astype(np.float64)), *found]
    things = _Things(*(np.concatenate(column) for column in zip(*found, strict=True)))
    counts = np.bincount(things.picture, minlength=n)
    place = np.arange(len(things.picture)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(1, counts.max(initial=0))

    def table(column: NDArray[Any], empty: float) -> NDArray[Any]:
        whole = np.full((n, width), empty, column.dtype)
        whole[things.picture, place] = column
        return whole

    shape, colour, size = (table(column, -1) for column in (things.shape, things.colour, things.size))
    return Scenes(side, shape, colour, size, table(things.x, 0), table(things.y, 0))
