"""Vendi score: the effective number of different rows in a set."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.linear import ROUNDING, product_sum
from clarkia._math.pairwise import blocks
from clarkia.measures.inputs import lazy_features, lazy_pair, some_rows
from clarkia.measures.kernels import Kernel
from clarkia.random import Noise


def vendi(
    x: Tensor | np.ndarray,
    q: float = 1.0,
    *,
    kernel: Kernel | None = None,
    weights: Float64[Tensor, " n"] | None = None,
    path: str = "auto",
) -> Float64[Tensor, ""]:
    """Effective number of distinct rows: ``(sum_i l_i^q)^{1/(1-q)}`` of the eigenvalues of ``K / n``.

    At q = 1 the exponential of their entropy, at q = infinity one over the largest. Between 1 (all rows alike) and n
    (no two alike). Higher is more diverse, noise included: compare with the score of as many real rows. Differentiable.

    Args:
        x: Features ``(n, d)``.
        q: Order, at least 0 (0 counts eigenvalues); more gives rare rows less weight.
        kernel: A positive definite kernel, scaled to ``k(x, x) = 1``; its ``n x n`` matrix is held. By
            default the cosine of two rows; rows of zeros, black pictures say, are alike and unlike all others.
        weights: Weights of the rows, ``(n,)``, at least 0, scaled to sum 1; equal by default.
        path: For cosines "primal" (``n x n``), "dual" (``d x d``) or "auto", the smaller; the score is the same.

    Returns:
        A float64 number.

    Raises:
        ValueError: Values that are not finite, a negative q, weights that do not fit, the dual of another kernel.

    Source: The Vendi Score: A Diversity Evaluation Metric for Machine Learning (2022).
    """
    x = lazy_features(x)
    if not q >= 0:
        raise ValueError(f"q: expected a number >= 0, found {q}.")
    if path not in ("auto", "primal", "dual") or (path == "dual" and kernel is not None):
        raise ValueError(f"path: expected 'auto', 'primal', or for cosines 'dual', found {path!r}.")
    share = _shares(weights, x)
    root = share.sqrt()
    if kernel is not None:
        gram = kernel(x.double(), x.double()).double()
        scale = root / gram.diagonal().sqrt()
        gram = gram * scale[:, None] * scale
    elif path == "dual" or (path == "auto" and x.shape[1] < len(x)):
        parts = ((first, _directions(block)) for first, block in blocks(x))
        gram = product_sum(part * root[first : first + len(part), None] for first, part in parts)
    else:
        rows = _directions(x) * root[:, None]
        gram = rows @ rows.T
    return effective_number(torch.linalg.eigvalsh(gram), q)


def _directions(rows: Tensor) -> Float64[Tensor, "n d1"]:
    """Rows divided by their lengths, with a column more: the direction of those that have none of their own."""
    rows = rows.double()
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.cat([rows / lengths.where(lengths > 0, 1.0), (lengths == 0).double()], 1)


def effective_number(values: Float64[Tensor, " n"], q: float = 1.0) -> Float64[Tensor, ""]:
    """Effective number of shares that sum to 1, ``(sum l^q)^{1/(1-q)}``; those at the level of rounding count as 0."""
    kept = values[values > len(values) * ROUNDING * values.max()]
    if q == 1:
        return (-(kept * kept.log()).sum()).exp()
    if math.isinf(q):
        return 1 / kept.max()
    return (kept**q).sum() ** (1 / (1 - q))


def _shares(weights: Tensor | None, x: Tensor) -> Tensor:
    if weights is None:
        return torch.full((len(x),), 1 / len(x), dtype=torch.float64, device=x.device)
    share = weights.double()
    if share.shape != x.shape[:1] or not bool((share >= 0).all() and 0 < share.sum() < torch.inf):
        raise ValueError(f"weights: expected ({len(x)},) numbers >= 0, not all 0, found {tuple(share.shape)}.")
    return share / share.sum()


def vendi_ratio(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    q: float = 1.0,
    *,
    kernel: Kernel | None = None,
    generator: Noise = None,
) -> Float64[Tensor, ""]:
    """Diversity of generated rows over that of as many real ones: ``vendi(y) / vendi(x)``, 1 for equal laws.

    Args:
        x: Real features ``(n, d)``; where n and m differ the larger set is cut to the smaller one's size at random.
        y: Generated features ``(m, d)``.
        q: Order of the score.
        kernel: As in `vendi`.
        generator: Chooses the rows.

    Returns:
        A float64 number.

    Raises:
        ValueError: As `vendi`, or different widths.

    Source: The Vendi Score: A Diversity Evaluation Metric for Machine Learning (2022).
    """
    x, y = lazy_pair(x, y)
    size = min(len(x), len(y))
    x, y = (some_rows(rows, size, generator) for rows in (x, y))
    return vendi(y, q, kernel=kernel) / vendi(x, q, kernel=kernel)
