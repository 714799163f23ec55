"""Captions as numbers: a fixed list of words, and what captions claim as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clarkia.datasets.shapes.grammar import COLOURS, COUNTS, PLURALS, RELATIONS, SHAPES, SIZES, Caption, parse

PADDING = ""
WORDS = (
    PADDING, "a", "an", *COUNTS, *SIZES, *COLOURS, *SHAPES, *PLURALS,
    "and", "left", "right", "of", "above", "below",
    # Words of other ways to say a number: "two groups of three", "three on the left and two more", "in two rows".
    "groups", "more", "in", "rows", "on", "the",
)  # fmt: skip
"""All words a caption may hold; the number of a word is its place, 0 is padding."""

MAX_WORDS = 14
"""Most words of a caption."""

ALONE, AND = 0, 1
JOINTS = ("alone", "and", *RELATIONS)
"""How a caption's phrases are joined: by its second phrase being absent, by "and", by a relation."""

COUNT, SIZE, COLOUR, SHAPE = range(4)
_NUMBER = {word: number for number, word in enumerate(WORDS)}
_ATTRIBUTES = (SIZES, COLOURS, SHAPES)
_JOINT_WORDS = np.array(
    [[0, 0], *([_NUMBER[word] for word in joint.split()] + [0] * (2 - len(joint.split())) for joint in JOINTS[1:])]
)


@dataclass(frozen=True, eq=False)
class Claims:
    """What n captions say.

    Attributes:
        joint: index into `JOINTS`, ``(n,)``.
        phrases: count, and indices into `SIZES`, `COLOURS` and `SHAPES`, of both phrases, int64 ``(n, 2, 4)``; -1 where
            nothing is said, count 0 for a phrase that is absent.
    """

    joint: NDArray[np.int64]
    phrases: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.joint)

    def caption(self, row: int) -> Caption:
        """What one of the captions says."""
        return parse(self.texts(slice(row, row + 1))[0])

    def texts(self, rows: slice = slice(None)) -> list[str]:
        """The captions as text."""
        return texts(Claims(self.joint[rows], self.phrases[rows]).words())

    def words(self) -> NDArray[np.int64]:
        """The captions as numbers of words, ``(n, MAX_WORDS)``, padded."""
        joint = _JOINT_WORDS[self.joint]
        words = np.concatenate([_phrase_words(self.phrases[:, 0]), joint, _phrase_words(self.phrases[:, 1])], 1)
        # A stable sort on "is padding" moves the words to the front and keeps their order.
        order = np.argsort(words == 0, axis=1, kind="stable")
        words = np.take_along_axis(words, order, 1)
        return np.pad(words, ((0, 0), (0, MAX_WORDS - words.shape[1])))


def claims(captions: Sequence[str | Caption]) -> Claims:
    """What captions say, as arrays.

    Raises:
        DataError: a text is no caption.
    """
    joint = np.zeros(len(captions), np.int64)
    phrases = np.full((len(captions), 2, 4), -1, np.int64)
    phrases[:, :, COUNT] = 0
    for row, caption in enumerate(captions):
        said = parse(caption) if isinstance(caption, str) else caption
        joint[row] = ALONE if said.second is None else JOINTS.index(said.relation or "and")
        for j, phrase in enumerate(said.phrases):
            named = zip(_ATTRIBUTES, (phrase.size, phrase.colour, phrase.shape), strict=True)
            phrases[row, j] = phrase.count, *(-1 if word is None else words.index(word) for words, word in named)
    return Claims(joint, phrases)


def texts(words: NDArray[np.int64]) -> list[str]:
    """Texts from numbers of words ``(n, m)``, padding left out.

    Raises:
        ValueError: a number that stands for no word.
    """
    words = np.asarray(words)
    if words.size and not (words.min() >= 0 and words.max() < len(WORDS)):
        raise ValueError(f"words: expected numbers from 0 to {len(WORDS) - 1}, found {words.min()} to {words.max()}.")
    return [" ".join(WORDS[word] for word in row if word) for row in words.tolist()]


def _phrase_words(phrase: NDArray[np.int64]) -> NDArray[np.int64]:
    """The words of a phrase ``(n, 4)``, 0 where there is none."""
    count, size, colour, shape = phrase.T
    one, said = count == 1, count > 0
    article = np.where((size < 0) & (colour == COLOURS.index("orange")), _NUMBER["an"], _NUMBER["a"])
    number = np.where(one, article, _NUMBER["one"] + count - 1)
    noun = np.where(one, _NUMBER[SHAPES[0]], _NUMBER[PLURALS[0]]) + shape
    size_word = np.where(size >= 0, _NUMBER[SIZES[0]] + size, 0)
    colour_word = np.where(colour >= 0, _NUMBER[COLOURS[0]] + colour, 0)
    return np.where(said[:, None], np.stack([number, size_word, colour_word, noun], 1), 0)
