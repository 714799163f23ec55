"""Other ways to say a number: captions rewritten so that they take the counting apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from clarkia.datasets.shapes import MAX_WORDS, WORDS, Caption, Phrase, parse
from clarkia.datasets.shapes.grammar import COUNTS

REFINEMENTS = ("multiplicative", "additive", "grid", "position")
"""Groups of a number, one number and more, rows of a number, some on the left and the rest on the right."""


def refine(caption: str | Caption, kind: str, vocabulary: Collection[str] = WORDS) -> str | None:
    """Say the number of a caption in another way.

    Each kind knows a wording of its own and one that joins two phrases of the plain grammar; the first of them whose
    words are all known is taken. A model that never saw the words would be tested on these, not on counting.

    Args:
        caption: one phrase, such as "six red circles".
        kind: one of `REFINEMENTS`.
        vocabulary: the words that may be used.

    Returns:
        The new caption; None where the number cannot be said so (a prime is no product), or only in unknown words.

    Raises:
        ValueError: no such kind, or a caption of two phrases.
    """
    if kind not in REFINEMENTS:
        raise ValueError(f"kind: expected one of {', '.join(REFINEMENTS)}, found {kind!r}.")
    said = parse(caption) if isinstance(caption, str) else caption
    if said.second is not None:
        raise ValueError(f"caption: expected one phrase, found {str(said)!r}.")
    for text in _wordings(said.first, kind):
        words = text.split()
        if len(words) <= MAX_WORDS and all(word in vocabulary for word in words):
            return text
    return None


def refined_captions(
    captions: Sequence[str], kinds: Sequence[str] = REFINEMENTS, *, share: float = 0.5, seed: int = 0
) -> list[str]:
    """Captions to train on of which a share is refined, so that a test of refinements is not one of new words.

    Args:
        captions: those of the data; captions of two phrases stay as they are.
        kinds: refinements that are drawn from.
        share: of the captions that are rewritten, where that can be done.
        seed: fixes which.
    """
    source = np.random.default_rng(seed)
    chosen, which = source.random(len(captions)) < share, source.integers(len(kinds), size=len(captions))
    found = []
    for caption, rewritten, number in zip(captions, chosen, which, strict=True):
        plain = not rewritten or parse(caption).second is not None
        found.append(caption if plain else refine(caption, kinds[int(number)]) or caption)
    return found


def _wordings(phrase: Phrase, kind: str) -> Iterator[str]:
    """The ways to say it, best first."""
    n, things = phrase.count, _things(phrase)
    if n < 2:
        return
    large = (n + 1) // 2
    small = n - large
    if kind == "additive":
        yield f"{_number(large)} and {_number(small)} more {things}"
        yield f"{_some(phrase, large)} and {_some(phrase, small)}"
    elif kind == "position":
        yield f"{_some(phrase, large)} on the left and {_number(small)} on the right"
        yield f"{_some(phrase, large)} left of {_some(phrase, small)}"
    else:
        groups = _groups(n)
        if groups is None:
            return
        each = n // groups
        if kind == "multiplicative":
            yield f"{_number(groups)} groups of {_some(phrase, each)}"
            if groups == 2:
                yield f"{_some(phrase, each)} and {_some(phrase, each)}"
        else:
            yield f"{_number(n)} {things} in {_number(groups)} rows of {_number(each)}"
            if groups == 2:
                yield f"{_some(phrase, each)} above {_some(phrase, each)}"


def _groups(n: int) -> int | None:
    """The smaller factor nearest to the root; None of a prime."""
    return next((count for count in range(int(n**0.5), 1, -1) if n % count == 0), None)


def _number(n: int) -> str:
    return COUNTS[n - 1]


def _things(phrase: Phrase) -> str:
    """The noun in the plural with what is said of it."""
    return " ".join(str(Phrase(2, phrase.shape, phrase.colour, phrase.size)).split()[1:])


def _some(phrase: Phrase, n: int) -> str:
    return str(Phrase(n, phrase.shape, phrase.colour, phrase.size))
