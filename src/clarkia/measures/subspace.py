"""How far points lie from the flat that data lie near: the subspace of their leading principal directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.linear import moments
from clarkia.measures import inputs


@dataclass(frozen=True, eq=False)
class Subspace:
    """A flat through a centre.

    Attributes:
        centre: ``(d,)``.
        basis: Orthonormal columns, ``(d, k)``.
    """

    centre: Float64[Tensor, " d"]
    basis: Float64[Tensor, "d k"]

    def leak(self, x: Float[Tensor, "n d"] | np.ndarray) -> Float64[Tensor, " n"]:
        """Distance of each point from the flat; see `subspace_leak`."""
        return subspace_leak(x, self.basis, self.centre)


def subspace_leak(
    x: Float[Tensor, "n d"] | np.ndarray,
    basis: Float[Tensor, "d k"] | np.ndarray,
    centre: Float[Tensor, " d"] | None = None,
) -> Float64[Tensor, " n"]:
    """What points have outside a subspace: ``|(I - A A')(x - centre)|``.

    Args:
        x: Points, ``(n, d)``.
        basis: A, orthonormal columns ``(d, k)``.
        centre: A point of the flat, ``(d,)``; the origin if None.

    Returns:
        float64 ``(n,)``.

    Raises:
        ValueError: A basis that does not fit the points or whose columns are not orthonormal.

    Source: An Overview of Diffusion Models: Applications, Guided Generation, Statistical Rates and Optimization (2024).
    """
    rows, directions = inputs.features(x), inputs.features(basis, "basis")
    if len(directions) != rows.shape[1]:
        raise ValueError(f"basis: expected {rows.shape[1]} rows as x has columns, found {len(directions)}.")
    identity = torch.eye(directions.shape[1], dtype=torch.float64, device=directions.device)
    if not torch.allclose(directions.T @ directions, identity, atol=1e-6):
        raise ValueError("basis: expected orthonormal columns, such as those of torch.linalg.qr.")
    rows = rows if centre is None else rows - centre.double()
    return (rows - rows @ directions @ directions.T).norm(dim=1)


def leading_subspace(x: Float[Tensor, "n d"] | np.ndarray, *, share: float = 0.99, dims: int | None = None) -> Subspace:
    """The flat through the mean of points, along the fewest principal directions that hold a share of their variance.

    Args:
        x: Points, ``(n, d)``.
        share: Of the variance, in (0, 1].
        dims: A number of directions instead.

    Raises:
        ValueError: A share outside (0, 1], or a number of directions outside 1 to d.
    """
    rows = inputs.features(x)
    inputs.at_least(rows, 2, "x", "to tell directions")
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a number in (0, 1], found {share}.")
    if dims is not None and not 1 <= dims <= rows.shape[1]:
        raise ValueError(f"dims: expected 1 to {rows.shape[1]}, found {dims}.")
    centre, scatter = moments(rows)
    values, vectors = torch.linalg.eigh(scatter)
    held = values.flip(0).clamp(min=0).cumsum(0)
    if dims is None:  # rounding may leave the last sum below a share of one
        dims = min(int((held < share * held[-1] * (1 - 1e-12)).sum()) + 1, rows.shape[1])
    return Subspace(centre, vectors.flip(1)[:, :dims])
