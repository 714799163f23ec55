"""Covariances that can be inverted, for the scorers that measure distance in them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from clarkia._math.linear import ledoit_wolf_shrinkage

Shrinkage: TypeAlias = float | Literal["ledoit-wolf"]
SINGULAR = 1e-12  # smallest over largest eigenvalue below which rounding decides the inverse


def check_shrinkage(shrinkage: Shrinkage) -> None:
    """Raise ``ValueError`` unless it is a share or "ledoit-wolf"."""
    if shrinkage != "ledoit-wolf" and not (isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage: expected 'ledoit-wolf' or a number in [0, 1], found {shrinkage!r}.")


def shrunk_covariance(deviations: Tensor, degrees: int, shrinkage: Shrinkage, variance: Tensor | None = None) -> Tensor:
    """``(1 - s) S + s v I`` of deviations from means ``(n, d)``, with ``S = deviations' deviations / degrees``.

    The variance v is the mean one of the columns where none is given.
    """
    s = deviations.T @ deviations / degrees
    share = ledoit_wolf_shrinkage(deviations) if shrinkage == "ledoit-wolf" else float(shrinkage)
    target = s.diagonal().mean() if variance is None else variance
    return (1 - share) * s + share * target * torch.eye(len(s), dtype=s.dtype, device=s.device)


def inverse_factor(covariance: Tensor, where: str) -> Tensor:
    """The matrix A with ``A' A`` the inverse, lower triangular: ``|A x|^2`` is the squared Mahalanobis distance.

    Args:
        covariance: ``(d, d)``.
        where: What the covariance is of, for the sentence of the error.

    Raises:
        ValueError: A covariance that is singular up to rounding.
    """
    eigenvalues = torch.linalg.eigvalsh(covariance)
    if not float(eigenvalues[0]) > SINGULAR * float(eigenvalues[-1]):
        raise ValueError(
            f"shrinkage: expected enough to invert the covariance of {where}, found smallest and largest variances "
            f"{float(eigenvalues[0]):.3g} and {float(eigenvalues[-1]):.3g}; give a positive share, or more rows."
        )
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False)
