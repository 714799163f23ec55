"""Prompts: which tokens of a text to be written are known already."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from clarkia.codecs.text.tokens import Ids
from clarkia.errors import DataError

_HOLE = re.compile(r"\[\*([0-9]{0,9})\]")

Part = tuple[int, Ids, str]


def laid_out(text: str, length: int, cut: Callable[[str, str], Ids]) -> list[Part]:
    """Where the known texts of an infill go.

    Holes without a number share what is left of the length, the first ones taking a token more where it does not
    divide; without such a hole the text begins at position 0 and nothing is said of what follows it.

    Args:
        text: known texts with holes, ``[*]`` or ``[*12]``.
        length: tokens of a state.
        cut: tokens of a known text, from the text and a name for messages.

    Returns:
        First positions, tokens and names.

    Raises:
        DataError: no hole, or more known tokens than the length.
    """
    *pieces, last = _HOLE.split(text)
    if not pieces:
        raise DataError(f"infill: expected a hole to be filled, written [*] or [*12], found none in {text[:100]!r}.")
    known = [cut(piece, "infill") for piece in (*pieces[::2], last)]
    sizes = [int(size) if size else None for size in pieces[1::2]]
    left = length - sum(map(len, known)) - sum(size or 0 for size in sizes)
    open_holes = sizes.count(None)
    if left < 0:
        raise DataError(
            f"infill: known texts and holes take {length - left} tokens, and the model's length is {length}."
        )
    shares = iter([left // open_holes + (place < left % open_holes) for place in range(open_holes)])
    widths = [next(shares) if size is None else size for size in sizes]
    parts, start = [], 0
    for ids, width in zip(known, (*widths, 0), strict=True):
        parts.append((start, ids, "infill"))
        start += len(ids) + width
    return parts


def combined(parts: Sequence[Part], length: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Known tokens laid over each other: values and where they are known, ``(length,)`` each.

    Raises:
        DataError: tokens beyond the length, or two that disagree at a position.
    """
    values, known = np.zeros(length, np.int64), np.zeros(length, bool)
    for start, ids, name in parts:
        stop = start + len(ids)
        if start < 0 or stop > length:
            raise DataError(
                f"{name}: the text takes {len(ids)} tokens, and only {length - max(start, 0)} are left for it."
            )
        here = slice(start, stop)
        clash = np.flatnonzero(known[here] & (values[here] != ids))
        if len(clash):
            raise DataError(f"{name}: position {start + int(clash[0])} is given another token already; leave one out.")
        values[here], known[here] = ids, True
    return values, known
