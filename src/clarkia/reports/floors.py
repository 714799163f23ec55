"""Floors of distances: what two fresh samples of the sizes compared would show."""

from collections.abc import Callable

import numpy as np

from clarkia.measures.resampling import resample
from clarkia.measures.rows import MixedRows

Distances = Callable[[MixedRows, MixedRows], np.ndarray]


def _mean(draws: list[np.ndarray]) -> np.ndarray:
    return np.sum(draws, 0) / len(draws)


def fresh_distances(
    distances: Distances, rows: MixedRows, sizes: tuple[int, int], rng: np.random.Generator, draws: int
) -> np.ndarray:
    """Mean distances between two fresh samples of the law that ``rows`` come from.

    The rows are split at random, without replacement, into two sets whose sizes are in the proportion asked for. Where
    there are too few rows for the full sizes, the distances are carried from the smaller sizes to the full ones by the
    ratio of their bootstrap figures. A bootstrap alone would be too low for columns of many rare values, of which a
    sample shows a part only.

    Args:
        distances: Function of two sets of rows, such as the distances of all columns.
        rows: All real rows there are.
        sizes: Numbers of rows of the two samples.
        rng: Source of the splits.
        draws: Number of splits.

    Returns:
        The mean of the function's results, NaN where they are.
    """
    share = min(1.0, len(rows) / sum(sizes))
    small = max(1, int(share * sizes[0])), max(1, int(share * sizes[1]))
    splits = []
    for _ in range(draws):
        order = rng.permutation(len(rows))
        splits.append(distances(rows[order[: small[0]]], rows[order[small[0] : sum(small)]]))
    if share == 1:
        return _mean(splits)
    pairs = [(resample(rows, sizes[0], rng), resample(rows, sizes[1], rng)) for _ in range(draws)]
    full = _mean([distances(first, second) for first, second in pairs])
    # The small samples are parts of the full ones, so that chance hardly moves the ratio.
    part = _mean([distances(first[: small[0]], second[: small[1]]) for first, second in pairs])
    return _mean(splits) * np.where(part > 0, full / np.where(part > 0, part, 1.0), 1.0)
