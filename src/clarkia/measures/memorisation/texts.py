"""Copied passages: the longest run of characters or tokens that a text shares with a reference text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from clarkia.measures.memorisation.rates import Rate, numpy_stream, share
from clarkia.random import Noise

Text: TypeAlias = str | Sequence[int]
"""A string, or the numbers of its tokens."""


def longest_shared_spans(texts: Sequence[Text], references: Sequence[Text]) -> Int64[np.ndarray, " m"]:
    """Length of the longest run of each text that occurs, whole and in one piece, in any reference.

    Args:
        texts: Strings, or sequences of token numbers.
        references: The same kind.

    Returns:
        Characters or tokens, int64 ``(m,)``. Exact; time and memory grow as the total length N times the logarithm of
        the longest text, 4 bytes each.

    Raises:
        ValueError: No text or no reference, or strings among token numbers.

    Source: Suffix Arrays: A New Method for On-Line String Searches (1990).
    """
    symbols, document = _join(texts, references)
    longest = max(map(len, texts), default=0)
    ranks = _ranks(symbols, longest)
    best = np.zeros(len(texts) + len(references), np.int64)
    order = np.argsort(ranks[-1], kind="stable")
    is_reference = document >= len(texts)
    # In sorted order a suffix shares most with the nearest reference suffix before it or after it.
    for direction in (1, -1):
        walk = order[::direction]
        place = np.where(is_reference[walk], np.arange(len(walk)), -1)
        last = np.maximum.accumulate(place)
        asked = ~is_reference[walk] & (last >= 0)
        suffix, partner = walk[asked], walk[last[asked]]
        np.maximum.at(best, document[suffix], _shared(ranks, suffix, partner))
    return best[: len(texts)]


def _join(texts: Sequence[Text], references: Sequence[Text]) -> tuple[np.ndarray, np.ndarray]:
    """All symbols with a symbol of its own after each text, and the text each belongs to."""
    for name, group in (("texts", texts), ("references", references)):
        if isinstance(group, str) or not len(group):
            raise ValueError(f"{name}: expected a sequence of at least one text, found {type(group).__name__}.")
    every = [*texts, *references]
    kinds = {isinstance(text, str) for text in every}
    if len(kinds) > 1:
        raise ValueError("references: expected strings or token numbers as in texts, found both.")
    coded = [_codes(text) for text in every]
    lengths = np.array([len(code) for code in coded])
    _, numbers = np.unique(np.concatenate(coded), return_inverse=True)
    ends = np.cumsum(lengths + 1) - 1
    symbols = np.empty(ends[-1] + 1, np.int64)
    inside = np.ones(len(symbols), bool)
    inside[ends] = False
    symbols[inside] = numbers + len(every)
    symbols[ends] = np.arange(len(every))
    return symbols, np.repeat(np.arange(len(every)), lengths + 1)


def _codes(text: Text) -> np.ndarray:
    if isinstance(text, str):
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    codes = np.asarray(text)
    if codes.ndim != 1 or (len(codes) and not np.issubdtype(codes.dtype, np.integer)):
        raise ValueError(f"texts: expected strings or whole numbers in one row, found {codes.dtype} {codes.shape}.")
    return codes.astype(np.int64)


def _ranks(symbols: np.ndarray, longest: int) -> list[np.ndarray]:
    """For k = 0, 1, ...: the rank of the run of ``2^k`` symbols that starts at each place, until all differ."""
    ranks = [np.unique(symbols, return_inverse=True)[1].astype(np.int32)]
    width = 1
    while width <= longest and int(ranks[-1].max()) < len(symbols) - 1:
        first = ranks[-1].astype(np.int64)
        second = np.zeros_like(first)
        second[: -width or None] = first[width:] + 1  # 0 past the end
        ranks.append(np.unique(first * (int(first.max()) + 2) + second, return_inverse=True)[1].astype(np.int32))
        width *= 2
    return ranks


def _shared(ranks: list[np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Length of the longest common run of pairs of places, by halving jumps."""
    length = np.zeros(len(first), np.int64)
    last = len(ranks[0]) - 1
    for k in range(len(ranks) - 1, -1, -1):
        here, there = np.minimum(first + length, last), np.minimum(second + length, last)
        length += np.where(ranks[k][here] == ranks[k][there], 2**k, 0)
    return length


@dataclass(frozen=True, eq=False)
class SpanCopies:
    """How much of generated texts is copied from the training texts, beside held-out texts.

    Attributes:
        generated: Share of each generated text that its longest run in any training text makes up, 0 to 1, ``(m,)``.
        holdout: The same of held-out texts, ``(h,)``.
        copied: Share of generated texts of which at least ``threshold`` is one copied run; null: of held-out texts.
    """

    generated: Float64[np.ndarray, " m"]
    holdout: Float64[np.ndarray, " h"]
    copied: Rate


def span_copies(
    train: Sequence[Text],
    holdout: Sequence[Text],
    generated: Sequence[Text],
    *,
    threshold: float = 0.5,
    generator: Noise = None,
) -> SpanCopies:
    """Share of every generated text that is one run out of a training text, next to held-out texts.

    Args:
        train: Training texts: strings or token numbers.
        holdout: Other texts of the same source.
        generated: Generated texts.
        threshold: Share of a text from which it counts as copied, in (0, 1].
        generator: Source of the interval's draws.

    Raises:
        ValueError: No text in a set, strings among token numbers, or a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected a number in (0, 1], found {threshold}.")
    if not len(holdout) or not len(generated):
        raise ValueError("holdout, generated: expected at least one text each, found none.")
    every: list[Any] = [*generated, *holdout]
    spans = longest_shared_spans(every, train)
    shares = spans / np.maximum([len(text) for text in every], 1)
    made, fresh = shares[: len(generated)], shares[len(generated) :]
    null = float((fresh >= threshold).mean())
    return SpanCopies(made, fresh, share((made >= threshold).astype(np.float64), null, numpy_stream(generator)))
