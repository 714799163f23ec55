"""Random numbers that are a function of their place: any row of an endless stream without the rows before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: the odd step of the SplitMix64 generator


def uniforms(seed: int, rows: ArrayLike, counters: ArrayLike, *, stream: int = 0) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), each a function of the seed, the stream, its row and its counter alone.

    Args:
        seed: any non-negative integer.
        rows: row numbers, ``(n,)``, not negative.
        counters: which numbers of a row, any shape, not negative.
        stream: keeps different uses of one seed apart.

    Returns:
        float64 ``(n, *counters' shape)``.

    Source: Fast Splittable Pseudorandom Number Generators (2014).
    """
    key = np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)
    shape = np.shape(counters)
    rows, counters = np.atleast_1d(rows), np.atleast_1d(counters)  # a single number would warn of what wraps around
    states = _mix(key + rows.astype(np.uint64) * _STEP)  # a stream a row, from a state that its number does not show
    states = states.reshape(-1, *[1] * counters.ndim)
    # The upper 53 bits are those a float64 holds.
    bits = _mix(states + (counters.astype(np.uint64) + np.uint64(1)) * _STEP) >> np.uint64(11)
    return bits.reshape(-1, *shape).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64: a bijection of 64 bits in which every input bit turns every output bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
