"""Do two samples come from one law? Tests on the maximum mean discrepancy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import CHUNK, blocks
from clarkia.measures.inputs import at_least, lazy_pair, shuffled
from clarkia.measures.kernels import Kernel, gaussian_median
from clarkia.random import Noise

PAIRED_BLOCK = 32  # rows whose Gram matrix is made for its diagonal


@dataclass(frozen=True, eq=False)
class MMDTest:
    """Result of a test of equal laws.

    Attributes:
        value: The squared discrepancy, unbiased.
        p_value: Probability of a value as large where the laws are equal.
        null: Values under random labels, ``(permutations,)``; None for the linear-time test.
        z: Value over its standard error; None for the permutation test.
    """

    value: float
    p_value: float
    null: Float64[Tensor, " permutations"] | None = None
    z: float | None = None


@torch.no_grad()
def mmd_permutation_test(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    kernel: Kernel | None = None,
    permutations: int = 500,
    chunk: int = CHUNK,
    generator: Noise = None,
) -> MMDTest:
    """Test of equal laws whose level is exact at every sample size: labels are permuted over the pooled rows.

    One pass over the blocks of the pooled Gram matrix serves all permutations.

    Args:
        x: Features ``(n, d)``, at least 2 rows.
        y: Features ``(m, d)``, at least 2 rows.
        kernel: A symmetric kernel; by default a Gaussian with the median distance of the pooled rows.
        permutations: Number of random labellings; the least p-value is ``1 / (permutations + 1)``.
        chunk: Rows of a block.
        generator: Source of the permutations.

    Returns:
        The unbiased value, its p-value ``(1 + #{null >= value}) / (1 + permutations)`` and the null values.

    Raises:
        ValueError: As `mmd2`, or no permutation.

    Source: A Kernel Two-Sample Test (2012).
    """
    x, y = lazy_pair(x, y)
    for rows, name in ((x, "x"), (y, "y")):
        at_least(rows, 2, name, "for pairs of different rows")
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, found {permutations}.")
    kernel = gaussian_median(x, y) if kernel is None else kernel
    n, m = len(x), len(y)
    pooled = torch.cat([x, y])
    orders = torch.stack([torch.arange(n + m), *(shuffled(n + m, generator) for _ in range(permutations))], 1)
    labels = (orders < n).double().to(x.device)  # of the pooled rows, (n + m, 1 + permutations), a first set of n each

    sums = labels.new_zeros(len(pooled))  # row sums of the Gram matrix without its diagonal
    inner = labels.new_zeros(labels.shape[1])  # z' K z
    for first, rows in blocks(pooled, chunk):
        for start, others in blocks(pooled, chunk):
            gram = kernel(rows.double(), others.double())
            if start == first:
                gram = gram - torch.diag(gram.diagonal())
            sums[first : first + chunk] += gram.sum(1)
            inner += (labels[first : first + chunk] * (gram @ labels[start : start + chunk])).sum(0)
    outer = labels.T @ sums  # z' K 1
    cross = outer - inner
    values = inner / (n * (n - 1)) + (sums.sum() - outer - cross) / (m * (m - 1)) - 2 * cross / (n * m)
    value, null = values[0], values[1:]
    rounding = 1e-12 * float(sums.abs().sum()) / (n + m) ** 2
    as_large = int((null >= value - rounding).sum())
    return MMDTest(float(value), (1 + as_large) / (1 + permutations), null)


@torch.no_grad()
def mmd_linear_test(x: Tensor | np.ndarray, y: Tensor | np.ndarray, *, kernel: Kernel | None = None) -> MMDTest:
    """Test of equal laws in time linear in the rows: a z statistic over disjoint pairs of rows.

    ``h = k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1)`` over consecutive pairs is a sample of independent numbers with
    the squared discrepancy as mean. Less power a row than `mmd_permutation_test`. The rows must be in random order.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``; as many rows as the smaller set has, an even number, are used.
        kernel: A symmetric kernel; by default a Gaussian with the median distance of the pooled rows.

    Returns:
        The mean of h, its z statistic and one-sided normal p-value.

    Raises:
        ValueError: Fewer than 4 rows in a set.

    Source: A Kernel Two-Sample Test (2012).
    """
    x, y = lazy_pair(x, y)
    for rows, name in ((x, "x"), (y, "y")):
        at_least(rows, 4, name, "for two pairs")
    kernel = gaussian_median(x, y) if kernel is None else kernel
    half = min(len(x), len(y)) // 2
    x1, x2, y1, y2 = x[: 2 * half : 2], x[1 : 2 * half : 2], y[: 2 * half : 2], y[1 : 2 * half : 2]
    h = _paired(kernel, x1, x2) + _paired(kernel, y1, y2) - _paired(kernel, x1, y2) - _paired(kernel, x2, y1)
    value, error = float(h.mean()), float(h.std()) / half**0.5
    if error == 0:  # all pairs agree: nothing varies, and only a difference is evidence
        return MMDTest(value, 0.0 if value > 0 else 1.0, z=math.inf if value > 0 else 0.0)
    return MMDTest(value, 0.5 * math.erfc(value / error / math.sqrt(2)), z=value / error)


def _paired(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    parts = zip(x.split(PAIRED_BLOCK), y.split(PAIRED_BLOCK), strict=True)
    return torch.cat([kernel(a.double(), b.double()).diagonal() for a, b in parts])
