"""Sinkhorn divergence: entropic optimal transport without its bias."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import CHUNK, distances, mean_row, reach, squared_distances
from clarkia._math.transport import Potentials, sinkhorn, sinkhorn_points
from clarkia.measures.inputs import lazy_pair

MATRIX = 2**22  # cost matrices of more numbers are computed again in every iteration


def sinkhorn_divergence(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    blur: float,
    p: int = 2,
    *,
    debias: bool = True,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    chunk: int = CHUNK,
) -> Float64[Tensor, ""]:
    """``S = OT(x, y) - OT(x, x)/2 - OT(y, y)/2`` with the cost ``|x - y|^p`` and an entropy.

    ``OT = min <P, C> + eps KL(P | a b')`` with ``eps = 2 blur^2`` for the squared distance and ``eps = blur`` for the
    distance. Lower is better; never negative, 0 exactly for equal sets, above 0 for two samples of one law. From
    ``W_p^p`` at blur 0 to ``|mean x - mean y|^2`` (p = 2) or half the energy distance (p = 1) at blur infinity.
    Differentiable: gradients hold the optimal potentials fixed.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        blur: Length below which differences blur, in units of the features.
        p: 1 for the cost ``|x - y|``, 2 for ``|x - y|^2``.
        debias: Subtract the two self terms; without them the entropic cost, which is not 0 for equal sets.
        tolerance: Largest sum of absolute errors of a marginal.
        max_iterations: Iterations at most; a warning says when they did not suffice.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number, in units of the features to the power p.

    Raises:
        ValueError: Different widths, values that are not finite, a blur that is not positive, p neither 1 nor 2.

    Source: Interpolating between Optimal Transport and MMD using Sinkhorn Divergences (2018).
    """
    x, y = lazy_pair(x, y)
    if p not in (1, 2):
        raise ValueError(f"p: expected 1 or 2, found {p}.")
    if not 0 < blur < torch.inf:
        raise ValueError(f"blur: expected a positive finite length, found {blur}.")
    cost, eps = (distances, float(blur)) if p == 1 else (squared_distances, 2 * float(blur) ** 2)
    centre = mean_row(x.detach(), y.detach())
    radius = max(reach(rows, centre) for rows in (x, y)) ** 0.5
    options = {"tolerance": tolerance, "max_iterations": max_iterations}

    def entropic(a: Tensor, b: Tensor, symmetric: bool) -> Potentials:
        if len(a) * len(b) <= MATRIX:
            return sinkhorn(cost(a, b), eps, symmetric=symmetric, **options)
        largest = (2 * radius) ** p
        return sinkhorn_points(cost, a, b, eps, largest=largest, symmetric=symmetric, chunk=chunk, **options)

    parts = [entropic(x, y, False), *((entropic(z, z, True) for z in (x, y)) if debias else ())]
    if not all(part.converged for part in parts):
        warnings.warn(
            f"Sinkhorn did not reach a marginal error of {tolerance:g} in {max_iterations} iterations: "
            "raise max_iterations or blur.",
            RuntimeWarning,
            stacklevel=2,
        )
    if not debias:
        return parts[0].cost
    return parts[0].cost - (parts[1].cost + parts[2].cost) / 2
