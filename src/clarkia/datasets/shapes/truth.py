"""Whether what is said of a scene is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clarkia.datasets.shapes.grammar import RELATIONS
from clarkia.datasets.shapes.scenes import Scenes
from clarkia.datasets.shapes.vocabulary import AND, COLOUR, COUNT, SHAPE, SIZE, Claims

CLEAR = 2.0
"""Points by which centres must differ for one to be left of or above another."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What of n captions is true of their scenes, bool ``(n,)`` each.

    Attributes:
        right: all of it: the scene's things can be dealt out to the phrases, none left over, and stand in the relation.
        count: the number of things is the sum of the phrases'.
        size: the sizes seen are those named.
        colour: the colours seen are those named.
        shape: the shapes seen are those named.
        relation: there are things of both phrases, and all stand in the relation.
        says: which of "size", "colour", "shape" and "relation" a caption says of everything it names, by name.
    """

    right: Mask
    count: Mask
    size: Mask
    colour: Mask
    shape: Mask
    relation: Mask
    says: dict[str, Mask]


def judge_claims(scenes: Scenes, said: Claims) -> Verdicts:
    """Compare n scenes with what is said of each."""
    first, second = (matches(scenes, said.phrases[:, group]) for group in (0, 1))
    here = said.phrases[:, :, COUNT] > 0
    names = {"size": SIZE, "colour": COLOUR, "shape": SHAPE}
    says = {name: np.all((said.phrases[:, :, place] >= 0) | ~here, axis=1) for name, place in names.items()}
    says["relation"] = said.joint > AND
    values = {name: _same_values(getattr(scenes, name), said.phrases[:, :, place]) for name, place in names.items()}
    return Verdicts(
        right=_dealt(scenes, said, first, second),
        count=scenes.present.sum(1) == said.phrases[:, :, COUNT].sum(1),
        relation=stands(scenes, first & ~second, second & ~first)[np.arange(len(said)), np.maximum(said.joint - 2, 0)],
        says=says,
        **values,
    )


def satisfied(scenes: Scenes, said: Claims) -> Mask:
    """Whether all that is said of each of n scenes is true of it, bool ``(n,)``."""
    first, second = (matches(scenes, said.phrases[:, group]) for group in (0, 1))
    return _dealt(scenes, said, first, second)


def matches(scenes: Scenes, phrases: NDArray[np.int64]) -> Mask:
    """Which things of n scenes are as a phrase each says, ``(n, m)``; none where the phrase is absent."""
    found = scenes.present & (phrases[:, None, COUNT] > 0)
    for place, codes in ((SIZE, scenes.size), (COLOUR, scenes.colour), (SHAPE, scenes.shape)):
        asked = phrases[:, None, place]
        found &= (asked < 0) | (codes == asked)
    return found


def stands(scenes: Scenes, first: Mask, second: Mask) -> Mask:
    """In which of `RELATIONS` all first things of n scenes stand to all second ones, ``(n, 4)``; none without any."""
    both = first.any(1) & second.any(1)
    found = np.zeros((len(scenes), len(RELATIONS)), bool)
    for code in range(len(RELATIONS)):
        along = _along(scenes, np.full(len(scenes), code))
        found[:, code] = both & (_largest(along, first) + CLEAR < -_largest(-along, second))
    return found


def _dealt(scenes: Scenes, said: Claims, first: Mask, second: Mask) -> Mask:
    """Whether the things can be dealt out to the phrases.

    Things that both phrases fit fill up the first one in the order along the relation, which is the best for it.
    """
    counts = said.phrases[:, :, COUNT]
    either = first & second
    missing = counts[:, 0] - (first & ~second).sum(1)
    along = _along(scenes, np.maximum(said.joint - 2, 0))
    rank = np.argsort(np.argsort(np.where(either, along, np.inf), axis=1, kind="stable"), axis=1)
    first = (first & ~second) | (either & (rank < missing[:, None]))
    second = (second & ~first) & scenes.present
    right = (first | second).sum(1) == scenes.present.sum(1)
    right &= (first.sum(1) == counts[:, 0]) & (second.sum(1) == counts[:, 1])
    apart = _largest(along, first) + CLEAR < -_largest(-along, second)
    return right & ((said.joint <= AND) | apart)


def _along(scenes: Scenes, relation: NDArray[np.int64]) -> NDArray[np.float64]:
    """Coordinates in which a relation's first things come before its second ones, ``(n, m)``."""
    coordinate = np.where(relation[:, None] < 2, scenes.x, scenes.y)
    return np.where(relation[:, None] % 2 == 0, coordinate, -coordinate)


def _largest(values: NDArray[np.float64], among: Mask) -> NDArray[np.float64]:
    return np.where(among, values, -np.inf).max(1, initial=-np.inf)


def _same_values(seen: NDArray[np.int64], said: NDArray[np.int64]) -> Mask:
    """Whether the codes seen ``(n, m)`` and those said ``(n, 2)``, -1 for none, are the same sets."""
    codes = np.arange(max(8, 1 + max(seen.max(initial=0), said.max(initial=0))))
    return ((seen[:, :, None] == codes).any(1) == (said[:, :, None] == codes).any(1)).all(1)
