"""Mean distances and the energy distance, exact and in blocks."""

from torch import Tensor

from clarkia._math.pairwise import CHUNK, distances, pair_mean, safe_power, squared_distances


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean Euclidean distance over all pairs of rows of ``x`` ``(n, d)`` and ``y`` ``(m, d)``, a float64 number."""
    return pair_mean(distances, x, y)


def energy_distance(
    x: Tensor, y: Tensor, *, exponent: float = 1.0, unbiased: bool = False, chunk: int = CHUNK
) -> Tensor:
    """``2 E|X - Y|^p - E|X - X'|^p - E|Y - Y'|^p``, for 0 < p < 2 zero exactly where the two laws agree.

    Args:
        x: ``(n, d)``.
        y: ``(m, d)``.
        exponent: The power p of the distances.
        unbiased: Leave the zero distances of a row to itself out of the means: the expectation is then that of the
            laws, and a value may be negative. With them the value is never negative, and for two samples of one law
            its mean is ``(1/n + 1/m) E|X - X'|^p``.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number.
    """

    def power(a: Tensor, b: Tensor) -> Tensor:
        return distances(a, b) if exponent == 1 else safe_power(squared_distances(a, b), exponent / 2)

    within = [
        pair_mean(power, rows, rows, chunk=chunk, symmetric=True, exclude_self=True)
        * (1.0 if unbiased else (len(rows) - 1) / len(rows))
        for rows in (x, y)
    ]
    return 2 * pair_mean(power, x, y, chunk=chunk) - within[0] - within[1]
