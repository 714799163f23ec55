"""The energy distance, exact and in chunks."""

import torch
from torch import Tensor

CHUNK = 1024


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean Euclidean distance over all pairs of rows of ``x`` ``(n, d)`` and ``y`` ``(m, d)``, a float64 number."""
    x, y = x.double(), y.double()
    # Distances from differences: those from products lose half the digits for points that are close.
    exact = "donot_use_mm_for_euclid_dist"
    total = sum((torch.cdist(rows, y, compute_mode=exact).sum() for rows in x.split(CHUNK)), x.new_zeros(()))
    return total / (len(x) * len(y))


def energy_distance(x: Tensor, y: Tensor, *, unbiased: bool = False) -> Tensor:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, which is 0 exactly where the two laws agree.

    Args:
        x: ``(n, d)``.
        y: ``(m, d)``.
        unbiased: Leave the zero distances of a row to itself out of the means: the expectation is then that of the
            laws, and a value may be negative. With them the value is never negative, and for two samples of one law
            its mean is ``(1/n + 1/m) E|X - X'|``.

    Returns:
        A float64 number.
    """
    within = [mean_distance(rows, rows) * (len(rows) / (len(rows) - 1) if unbiased else 1.0) for rows in (x, y)]
    return 2 * mean_distance(x, y) - within[0] - within[1]
