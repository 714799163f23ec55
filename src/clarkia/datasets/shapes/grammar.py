"""What can be said: a small grammar of counts, sizes, colours, shapes and relations, with a parser that inverts it.

A caption is one phrase, two phrases joined by "and", or two phrases in a relation:

    caption -> phrase | phrase "and" phrase | phrase relation phrase
    phrase  -> count size? colour? shape
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from clarkia.errors import DataError

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan", "orange", "white")
SIZES = ("small", "large")
COUNTS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PLURALS = ("circles", "squares", "triangles", "crosses")
KINDS = ("count", "size", "colour", "shape", "relation")

_NUMBERS = {"a": 1, "an": 1, **{word: number for number, word in enumerate(COUNTS, 1)}}


@dataclass(frozen=True)
class Phrase:
    """Some things that are alike.

    Attributes:
        count: how many, 1 to 15.
        shape: one of `SHAPES`.
        colour: one of `COLOURS`, None where it is not said.
        size: one of `SIZES`, None where it is not said.
    """

    count: int
    shape: str
    colour: str | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        known = ((SHAPES, self.shape), ((*COLOURS, None), self.colour), ((*SIZES, None), self.size))
        if not 1 <= self.count <= len(COUNTS) or any(word not in words for words, word in known):
            raise ValueError(f"phrase: expected 1 to 15 things of known attributes, found {self!r}.")

    def __str__(self) -> str:
        attributes = [word for word in (self.size, self.colour) if word]
        noun = SHAPES.index(self.shape)
        if self.count > 1:
            return " ".join([COUNTS[self.count - 1], *attributes, PLURALS[noun]])
        article = "an" if attributes[:1] == ["orange"] else "a"
        return " ".join([article, *attributes, SHAPES[noun]])

    def agrees(self, other: Phrase) -> bool:
        """Whether one thing can be both of these."""
        pairs = ((self.shape, other.shape), (self.colour, other.colour), (self.size, other.size))
        return all(mine is None or its is None or mine == its for mine, its in pairs)


@dataclass(frozen=True)
class Caption:
    """What is said of a scene: all things in it, in one or two phrases.

    Attributes:
        first: the first phrase.
        second: the second, None where there is one only.
        relation: where the first things are, seen from the second: one of `RELATIONS`, None where it is not said.
    """

    first: Phrase
    second: Phrase | None = None
    relation: str | None = None

    def __post_init__(self) -> None:
        if self.relation is not None and (self.second is None or self.relation not in RELATIONS):
            raise ValueError(f"relation: expected one of {', '.join(RELATIONS)} with two phrases, found {self!r}.")

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The one or two phrases."""
        return (self.first,) if self.second is None else (self.first, self.second)

    def __str__(self) -> str:
        return f" {self.relation or 'and'} ".join(map(str, self.phrases))


@lru_cache(maxsize=65536)
def parse(text: str) -> Caption:
    """Read a caption.

    Args:
        text: the caption, in capital or small letters.

    Raises:
        DataError: the text is no caption; the message names the word.
    """
    words = text.lower().split()
    first, rest = _phrase(text, words)
    if not rest:
        return Caption(first)
    joint = " ".join(rest[: 2 if rest[0] in ("left", "right") else 1])
    if joint not in ("and", *RELATIONS):
        raise _unread(text, rest[0], f"'and', {', '.join(map(repr, RELATIONS))} or the end")
    second, rest = _phrase(text, rest[len(joint.split()) :])
    if rest:
        raise _unread(text, rest[0], "the end")
    return Caption(first, second, None if joint == "and" else joint)


def negatives(caption: Caption | str, kind: str) -> tuple[str, ...]:
    """Captions that differ in one thing said and are false of every scene that the caption is true of.

    Two attributes of two phrases change places where that makes a difference; otherwise each is replaced by every
    other.

    Args:
        caption: what is true.
        kind: "count" (one more or less), "size", "colour", "shape" or "relation" (its opposite).

    Returns:
        The captions; none where nothing of the kind is said.

    Raises:
        DataError: the text is no caption.
        ValueError: no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}.")
    caption = parse(caption) if isinstance(caption, str) else caption
    found = [other for other in _changed(caption, kind) if contradicts(caption, other)]
    return tuple(dict.fromkeys(map(str, found)))


def contradicts(caption: Caption, other: Caption) -> bool:
    """Whether no scene at all makes both captions true.

    A scene makes both true when its things can be dealt out to the phrases of one and, again, to those of the other.
    So all that matters is how many things fall to phrase i of the one and phrase j of the other, a two by two table
    with known sums; relations forbid some pairs of its cells to be both occupied.
    """
    mine, its = _counts(caption), _counts(other)
    if sum(mine) != sum(its):
        return True
    for both_first in range(min(mine[0], its[0]) + 1):
        table = ((both_first, mine[0] - both_first), (its[0] - both_first, mine[1] - its[0] + both_first))
        if table[1][1] >= 0 and _consistent(caption, other, table):
            return False
    return True


def _consistent(caption: Caption, other: Caption, table: tuple[tuple[int, int], ...]) -> bool:
    for i, row in enumerate(table):
        for j, things in enumerate(row):
            if things and not caption.phrases[i].agrees(other.phrases[j]):
                return False
    if caption.relation is None or other.relation is None:
        return True
    (stay, cross), (back, rest) = table
    # Things first in both and second in both keep their sides; an opposite relation would turn them.
    if other.relation == OPPOSITE[caption.relation]:
        return not (stay and rest)
    return not (other.relation == caption.relation and cross and back)


def _counts(caption: Caption) -> tuple[int, int]:
    return caption.first.count, caption.second.count if caption.second else 0


def _changed(caption: Caption, kind: str) -> Iterator[Caption]:
    """Captions that differ in one thing said, true or false."""
    first, second = caption.first, caption.second
    if kind == "relation":
        if caption.relation:
            yield replace(caption, relation=OPPOSITE[caption.relation])
        return
    if kind == "count":
        for name, phrase in (("first", first), ("second", second)):
            for step in (-1, 1):
                if phrase and 1 <= (count := phrase.count + step) <= len(COUNTS):
                    yield replace(caption, **{name: replace(phrase, count=count)})
        return
    values = [getattr(phrase, kind) for phrase in caption.phrases]
    if second and None not in values and values[0] != values[1]:
        swapped = Caption(
            replace(first, **{kind: values[1]}), replace(second, **{kind: values[0]}), relation=caption.relation
        )
        if contradicts(caption, swapped):
            yield swapped
            return
    words = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[kind]
    for name, value in zip(("first", "second"), values, strict=False):
        for word in words if value else ():
            if word != value:
                yield replace(caption, **{name: replace(getattr(caption, name), **{kind: word})})


def _phrase(text: str, words: list[str]) -> tuple[Phrase, list[str]]:
    """Read a phrase from the beginning of a list of words; the rest is given back."""
    count = _NUMBERS.get(words[0]) if words else None
    if count is None:
        raise _unread(text, words[0] if words else None, "a number from 'one' to 'fifteen' or 'a'")
    rest = words[1:]
    found: dict[str, str] = {}
    for name, known in (("size", SIZES), ("colour", COLOURS)):
        if rest and rest[0] in known:
            found[name], rest = rest[0], rest[1:]
    nouns = SHAPES if count == 1 else PLURALS
    if not rest or rest[0] not in nouns:
        raise _unread(text, rest[0] if rest else None, f"a size, a colour or one of {', '.join(nouns)}")
    return Phrase(count, SHAPES[nouns.index(rest[0])], **found), rest[1:]


def _unread(text: str, word: str | None, expected: str) -> DataError:
    found = "the end" if word is None else repr(word)
    return DataError(
        f"caption {text[:200]!r}: expected {expected}, found {found}; write it as 'two small red circles'."
    )
