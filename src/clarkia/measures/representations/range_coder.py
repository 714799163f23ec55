"""An entropy coder of symbols: range asymmetric numeral systems over many lanes at once, one histogram a group.

Each lane holds a 64-bit state; a symbol of share f / 2^16 multiplies the state by about 2^16 / f, and what no longer
fits goes out as 32-bit words. All lanes take a step in one array operation, so that Python sees few steps.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8, UInt16, UInt32, UInt64

PRECISION = 16  # bits of a share
LOW = 1 << 31  # states stay in [2^31, 2^63)
SYMBOLS_PER_LANE = 8192  # so that the final states, 8 bytes a lane, cost 0.008 bits a symbol
MAX_LANES = 4096


def shares(counts: Int64[np.ndarray, "groups k"]) -> UInt32[np.ndarray, "groups k"]:
    """Counts as whole shares that sum to 2^16 in each group, none of a symbol that occurs below 1.

    A group without symbols gives its whole share to the first.
    """
    total = 1 << PRECISION
    counts = counts.astype(np.float64)
    sums = counts.sum(1, keepdims=True)
    exact = np.where(sums > 0, counts / np.maximum(sums, 1) * total, 0.0)
    whole = np.where(counts > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    for row, target in zip(whole, exact, strict=True):  # one group at a time: there are few
        missing = total - int(row.sum())
        if missing > 0:
            row[int(np.argmax(target))] += missing
        while missing < 0:  # many rare symbols: take from the largest, which lose least
            largest = int(np.argmax(row))
            taken = min(-missing, int(row[largest]) - 1, max(int(row[largest]) // 8, 1))
            row[largest] -= taken
            missing += taken
    return whole.astype(np.uint32)


def lanes_for(count: int) -> int:
    """Number of lanes for so many symbols."""
    return max(1, min(MAX_LANES, count // SYMBOLS_PER_LANE))


def encode(
    symbols: UInt16[np.ndarray, " n"], groups: UInt8[np.ndarray, " n"], table: UInt32[np.ndarray, "groups k"]
) -> tuple[UInt64[np.ndarray, " lanes"], UInt32[np.ndarray, " words"]]:
    """Code symbols, each by the shares of its group.

    Args:
        symbols: Below k, each with a share in its group.
        groups: Group of each.
        table: Shares, as `shares` gives them.

    Returns:
        Final states and words: what `decode` needs.
    """
    lanes = lanes_for(len(symbols))
    starts = _starts(table)
    frequency = table[groups, symbols].astype(np.uint64)
    start = starts[groups, symbols].astype(np.uint64)
    state = np.full(lanes, LOW, np.uint64)
    bound = np.uint64((LOW >> PRECISION) << 32)
    words: list[np.ndarray] = []
    steps = -(-len(symbols) // lanes)
    for step in range(steps - 1, -1, -1):
        piece = slice(step * lanes, min((step + 1) * lanes, len(symbols)))
        f, s = frequency[piece], start[piece]
        active = state[: len(f)]
        full = active >= bound * f
        words.append((active[full] & np.uint64(0xFFFFFFFF)).astype(np.uint32))
        active[full] >>= np.uint64(32)
        active[:] = ((active // f) << np.uint64(PRECISION)) + active % f + s
    return state, np.concatenate(words[::-1]) if words else np.zeros(0, np.uint32)


def decode(
    state: UInt64[np.ndarray, " lanes"],
    words: UInt32[np.ndarray, " words"],
    groups: UInt8[np.ndarray, " n"],
    table: UInt32[np.ndarray, "groups k"],
) -> UInt16[np.ndarray, " n"]:
    """Read symbols back; the inverse of `encode`.

    Raises:
        ValueError: States and words that no symbols have.
    """
    lanes, count = len(state), len(groups)
    starts = _starts(table)
    # One sorted list of all groups' starts: a slot plus its group's offset finds its symbol by bisection.
    offsets = np.arange(len(table), dtype=np.int64)[:, None] << PRECISION
    used = table.ravel() > 0
    edges, owner = (
        (starts.astype(np.int64) + offsets).ravel()[used],
        np.tile(np.arange(table.shape[1]), len(table))[used],
    )
    state = state.copy()
    symbols = np.empty(count, np.uint16)
    mask, position = np.uint64((1 << PRECISION) - 1), 0
    for step in range(-(-count // lanes)):
        piece = slice(step * lanes, min((step + 1) * lanes, count))
        group = groups[piece]
        active = state[: len(group)]
        slot = active & mask
        found = owner[np.searchsorted(edges, slot.astype(np.int64) + offsets[group, 0], "right") - 1]
        symbols[piece] = found
        active[:] = table[group, found] * (active >> np.uint64(PRECISION)) + slot - starts[group, found]
        empty = active < LOW
        need = int(empty.sum())
        if position + need > len(words):
            raise ValueError("data: expected more words, found the end of the stream.")
        active[empty] = (active[empty] << np.uint64(32)) | words[position : position + need]
        position += need
    if position != len(words) or bool((state != LOW).any()):
        raise ValueError("data: expected a stream that ends with its symbols, found other states.")
    return symbols


def _starts(table: UInt32[np.ndarray, "groups k"]) -> UInt64[np.ndarray, "groups k"]:
    """Cumulative shares below each symbol."""
    return (np.cumsum(table, 1, dtype=np.uint64) - table).astype(np.uint64)
