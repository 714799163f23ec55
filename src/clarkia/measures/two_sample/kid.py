"""Kernel distance of features in subsets: KID."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarkia.measures.inputs import at_least, lazy_pair, some_rows
from clarkia.measures.kernels import Kernel, Polynomial
from clarkia.measures.two_sample.mmd import mmd2
from clarkia.random import Noise

BLOCK = 250  # rows of a subset that are converted at once


@dataclass(frozen=True)
class SubsetMean:
    """A measure averaged over random subsets of equal size.

    Attributes:
        value: The mean.
        standard_error: Of that mean over other subsets of the same rows, ``deviation / sqrt(subsets)``; how much the
            rows themselves vary is more, and `assess` tells.
        deviation: Standard deviation over the subsets, which other packages print.
        subsets: Number of subsets.
        size: Rows of a subset.
    """

    value: float
    standard_error: float
    deviation: float
    subsets: int
    size: int

    def __str__(self) -> str:
        """The mean and its standard error times 1000, as is the custom, with the scale."""
        return f"{1000 * self.value:.3f} +/- {1000 * self.standard_error:.3f} (x1000)"


@torch.no_grad()
def kid(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    subsets: int = 100,
    size: int | None = None,
    kernel: Kernel | None = None,
    generator: Noise = None,
) -> SubsetMean:
    """Unbiased squared discrepancy with the kernel ``(x.y / d + 1)^3``, averaged over random subsets.

    Lower is better; zero in expectation for samples of one law whatever their size, so that values of different sample
    sizes can be compared. Only the first three moments count.

    Args:
        x: Features ``(n, d)``, ``n >= size``.
        y: Features ``(m, d)``, ``m >= size``.
        subsets: Number of subsets.
        size: Rows drawn from each set, without repeats; None for the usual 1000, or half the smaller set where that
            has fewer than 2000.
        kernel: Another kernel.
        generator: Chooses the subsets.

    Returns:
        Mean, standard error and scale.

    Raises:
        ValueError: Fewer rows than ``size``, or fewer than 2 subsets or rows.

    Source: Demystifying MMD GANs (2018).
    """
    x, y = lazy_pair(x, y)
    for rows, name in ((x, "x"), (y, "y")):
        at_least(rows, 2, name, "for subsets")
    size = min(1000, max(2, min(len(x), len(y)) // 2)) if size is None else size
    if subsets < 2 or size < 2:
        raise ValueError(f"subsets: expected at least 2 subsets of 2 rows, found subsets={subsets}, size={size}.")
    if size > min(len(x), len(y)):
        raise ValueError(f"size: expected at most {min(len(x), len(y))} rows, those of the smaller set, found {size}.")
    kernel = Polynomial() if kernel is None else kernel

    def draw() -> float:
        return float(mmd2(some_rows(x, size, generator), some_rows(y, size, generator), kernel=kernel, chunk=BLOCK))

    # As plain floats: a tensor a subset would sit between the blocks' memory and keep it from being used again.
    values = torch.tensor([draw() for _ in range(subsets)], dtype=torch.float64)
    deviation = float(values.std())
    return SubsetMean(float(values.mean()), deviation / subsets**0.5, deviation, subsets, size)
