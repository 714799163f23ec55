"""Maximum mean discrepancy: the largest difference of means over the unit ball of a kernel's functions, squared."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import CHUNK, blocks, pair_mean
from clarkia.measures.inputs import at_least, features, lazy_pair
from clarkia.measures.kernels import Gaussian, Kernel, gaussian_median


def mmd2(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    kernel: Kernel | None = None,
    unbiased: bool = True,
    chunk: int = CHUNK,
) -> Float64[Tensor, ""]:
    """Squared maximum mean discrepancy, ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``.

    Lower is better. Zero in expectation for samples of one law when unbiased: then it is negative about half the time,
    and neither clipped nor rooted. With the pairs of a row with itself it is never negative, and for one law about
    ``(1/n + 1/m)(E k(x, x) - E k(x, x'))``. Differentiable (in the rows; a bandwidth chosen from them is a constant).

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        kernel: A symmetric function of two blocks of rows, such as those of `clarkia.measures.kernels`; by default a
            Gaussian with the median distance of all rows as bandwidth.
        unbiased: Leave out the pairs of a row with itself; needs 2 rows in each set.
        chunk: Rows of a block on either side; ``chunk^2`` numbers are held at once.

    Returns:
        A float64 number in units of the kernel.

    Raises:
        ValueError: Different widths, values that are not finite, too few rows.

    Source: A Kernel Two-Sample Test (2012).
    """
    x, y = lazy_pair(x, y)
    if unbiased:
        for rows, name in ((x, "x"), (y, "y")):
            at_least(rows, 2, name, "for pairs of different rows")
    kernel = gaussian_median(x, y) if kernel is None else kernel
    own = [pair_mean(kernel, z, z, chunk=chunk, symmetric=True, exclude_self=unbiased) for z in (x, y)]
    return own[0] + own[1] - 2 * pair_mean(kernel, x, y, chunk=chunk)


def mmd2_from_gram(
    xx: Float64[Tensor, "n n"],
    yy: Float64[Tensor, "m m"],
    xy: Float64[Tensor, "n m"],
    *,
    unbiased: bool = True,
) -> Float64[Tensor, ""]:
    """Squared maximum mean discrepancy from Gram matrices, of kernels on anything: strings, graphs, sets.

    Args:
        xx: Kernel of the first set with itself, ``(n, n)``.
        yy: Kernel of the second set with itself, ``(m, m)``.
        xy: Kernel between the sets, ``(n, m)``.
        unbiased: Leave out the diagonals.

    Returns:
        A float64 number.

    Raises:
        ValueError: Shapes that do not fit, or one row where two are needed.
    """
    xx, yy, xy = features(xx, "xx"), features(yy, "yy"), features(xy, "xy")
    n, m = xy.shape
    if xx.shape != (n, n) or yy.shape != (m, m):
        raise ValueError(
            f"xy: expected Gram matrices (n, n), (m, m), (n, m), found {tuple(xx.shape)}, {tuple(yy.shape)}, {(n, m)}."
        )
    if not unbiased:
        return xx.mean() + yy.mean() - 2 * xy.mean()
    if min(n, m) < 2:
        raise ValueError(f"xy: expected at least 2 rows in each set for pairs of different rows, found {(n, m)}.")
    own = [(gram.sum() - gram.trace()) / (len(gram) * (len(gram) - 1)) for gram in (xx, yy)]
    return own[0] + own[1] - 2 * xy.mean()


def cmmd(x: Tensor | np.ndarray, y: Tensor | np.ndarray, *, chunk: int = CHUNK) -> Float64[Tensor, ""]:
    """CMMD: 1000 times the biased squared discrepancy of rows of unit length, with a Gaussian of bandwidth 10.

    Published values are on CLIP ViT-L/14-336 embeddings; on other features the number has another scale. Lower is
    better; never negative, and for one law about ``10 (1/n + 1/m)`` times one minus the mean cosine.

    Args:
        x: Embeddings ``(n, d)``, no row zero.
        y: Embeddings ``(m, d)``.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number.

    Raises:
        ValueError: As `mmd2`, or a row of length 0.

    Source: Rethinking FID: Towards a Better Evaluation Metric for Image Generation (2024).
    """
    x, y = lazy_pair(x, y)
    for rows, name in ((x, "x"), (y, "y")):
        for first, block in blocks(rows.detach()):
            unit_rows(block, name, first)
    gaussian = Gaussian(10.0)
    return 1000 * mmd2(
        x, y, kernel=lambda a, b: gaussian(unit_rows(a, "x"), unit_rows(b, "y")), unbiased=False, chunk=chunk
    )


def unit_rows(rows: Tensor, name: str, first: int = 0) -> Tensor:
    """Rows divided by their lengths, in float64; one of length 0 raises, with its place behind ``first`` others."""
    rows = rows.double()
    lengths = rows.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        zero = first + int(lengths.argmin())
        raise ValueError(f"{name}: expected rows of positive length, found row {zero} all zero.")
    return rows / lengths
