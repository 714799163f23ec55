"""The whitened feature distance: between rows after their features were made uncorrelated and of unit length."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.linear import whitening
from clarkia._math.pairwise import squared_distances
from clarkia.measures import inputs

RELATIVE = 1e-10  # regularisation of a full-rank covariance, in units of its mean variance: keeps off rounding

Shrinkage = float | Literal["ledoit-wolf"] | None


def whitened_features(
    candidates: Float[Tensor, "n d"], target: Float[Tensor, "m d"], *, shrinkage: Shrinkage = None
) -> tuple[Float64[Tensor, "n e"], Float64[Tensor, "m e"]]:
    """Both sets centred by their joint mean, whitened by their joint covariance, each row scaled to unit length.

    An invertible affine map of the features changes no inner product of the result, up to the shrinkage. All sums are
    float64: the small directions that whitening is for do not survive less.

    Args:
        candidates: Features, ``(n, d)``.
        target: Features, ``(m, d)``.
        shrinkage: Weight in [0, 1] of the mean variance times the identity in the covariance, or ``"ledoit-wolf"`` for
            the weight of least expected error; None takes 1e-10 where there are more rows than features, else
            Ledoit-Wolf, without which the covariance would be singular.

    Returns:
        Unit rows of both sets, ``(n, e)`` and ``(m, e)``. A row at the joint mean has no direction: it comes out at a
        right angle to all others, for which e exceeds d.

    Raises:
        ValueError: Sets that are not finite matrices of one width, or without variance.

    Source: TAROT: Targeted Data Selection via Optimal Transport (2024).
    """
    x, y = inputs.pair(candidates, target, ("candidates", "target"))
    stack = torch.cat([x, y])
    if not bool((stack != stack[0]).any()):
        raise ValueError("candidates, target: expected features that vary, found one and the same row.")
    if shrinkage is None:
        shrinkage = RELATIVE if len(stack) > x.shape[1] else "ledoit-wolf"
    white = whitening(stack, shrinkage=shrinkage)
    return unit_rows(white.apply(x), white.apply(y))


def unit_rows(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Rows scaled to unit length; rows of length zero get a direction of their own set's, orthogonal to all else."""
    norms = x.norm(dim=1), y.norm(dim=1)
    floor = 1e-12 * max(float(norm.max()) for norm in norms)  # what rounding leaves of a length of zero
    zero = [(norm <= floor).to(x).unsqueeze(1) for norm in norms]
    if any(bool(part.any()) for part in zero):
        x = torch.cat([x * (1 - zero[0]), zero[0], torch.zeros_like(zero[0])], 1)
        y = torch.cat([y * (1 - zero[1]), torch.zeros_like(zero[1]), zero[1]], 1)
    return F.normalize(x, dim=1, eps=0.0), F.normalize(y, dim=1, eps=0.0)


def whitened_distance(
    candidates: Float[Tensor, "n d"], target: Float[Tensor, "m d"], *, shrinkage: Shrinkage = None
) -> Float64[Tensor, "n m"]:
    """``sqrt(2 - 2 f_i . f_j)`` between the whitened unit features of two sets: from 0 for one direction to 2.

    For features that are gradients of a loss it is an influence score, scaled by the norms, with the covariance of the
    gradients in the place of the Hessian.

    Args:
        candidates: Features, ``(n, d)``.
        target: Features, ``(m, d)``; whitened together with the candidates.
        shrinkage: As in `whitened_features`.

    Returns:
        Distances, float64 ``(n, m)``; for large sets use `select`, which never holds them all.

    Raises:
        ValueError: As in `whitened_features`.

    Source: TAROT: Targeted Data Selection via Optimal Transport (2024).
    """
    return squared_distances(*whitened_features(candidates, target, shrinkage=shrinkage)).clamp(min=0).sqrt()
