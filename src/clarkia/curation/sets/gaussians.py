"""Optimal transport between normal laws in closed form: what embeddings and their interpolations are held against."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.linear import square_root
from clarkia.measures import gaussian_frechet


def gaussian_wasserstein(
    mean: Float[Tensor, " d"],
    covariance: Float[Tensor, "d d"],
    other_mean: Float[Tensor, " d"],
    other_covariance: Float[Tensor, "d d"],
) -> Float64[Tensor, ""]:
    """``W_2`` of two normal laws: root of ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^{1/2} S2 S1^{1/2})^{1/2})``.

    Both terms are squares; adding the distance of the means itself, as a released benchmark does, gives no distance.

    Args:
        mean: Of the first law.
        covariance: Of the first law, positive semi-definite.
        other_mean: Of the second law.
        other_covariance: Of the second law.
    """
    laws = (mean, covariance, other_mean, other_covariance)
    return gaussian_frechet(*(part.double() for part in laws)).clamp(min=0).sqrt()


def gaussian_geodesic(
    mean: Float[Tensor, " d"],
    covariance: Float[Tensor, "d d"],
    other_mean: Float[Tensor, " d"],
    other_covariance: Float[Tensor, "d d"],
    share: float,
) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    """Mean and covariance on the way from one normal law to another along which ``W_2`` grows evenly.

    Points move on straight lines to their place under the optimal map ``S1^{-1/2} (S1^{1/2} S2 S1^{1/2})^{1/2}
    S1^{-1/2}`` (McCann's interpolation).

    Args:
        mean: Of the first law.
        covariance: Of the first law, positive definite.
        other_mean: Of the second law.
        other_covariance: Of the second law.
        share: Of the way, 0 for the first law, 1 for the second.
    """
    s1, s2 = covariance.double(), other_covariance.double()
    root = square_root(s1)
    inverse = torch.linalg.inv(root)
    middle = root @ s2 @ root
    map_ = inverse @ square_root((middle + middle.T) / 2) @ inverse
    move = (1 - share) * torch.eye(len(s1), dtype=torch.float64) + share * map_
    return torch.lerp(mean.double(), other_mean.double(), share), move @ s1 @ move.T
