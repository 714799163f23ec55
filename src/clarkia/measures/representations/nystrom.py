"""The spectrum of a diffusion operator on many rows, from its columns at few of them."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import squared_distances
from clarkia.measures.representations.diffusion import Normalisation
from clarkia.random import Noise, rand

BLOCK = 50  # landmarks chosen at once
CHUNK = 1024  # rows of a block of the kernel


def nystrom_spectrum(
    z: Float64[Tensor, "n d"],
    bandwidth: float,
    landmarks: int,
    normalisation: Normalisation = "anisotropic",
    *,
    generator: Noise = None,
) -> Float64[Tensor, " n"]:
    """Eigenvalues of the diffusion matrix of a Gaussian kernel in O(n^2 d + n m^2), without an n x n matrix.

    A partial Cholesky factor of the matrix with random pivots: m landmarks, each drawn with a chance in proportion to
    what the landmarks before it leave of the diagonal. (Landmarks drawn evenly miss outlying rows, and a walk that
    starts at one of those stays there: their eigenvalues are the largest.) The row sums are exact, so the trace is
    known, and what the factor leaves of it is spread evenly over the eigenvalues that it does not see. With the
    bandwidth at 0 or infinity the result is exact.

    Args:
        z: Rows.
        bandwidth: s of the kernel.
        landmarks: m, at most n.
        normalisation: As in `diffusion_matrix`.
        generator: Source of the landmarks.

    Source: Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral Entropy
    (2023).
    """
    scale = _row_scale(z, bandwidth, normalisation)
    diagonal = scale.square()
    total, left = diagonal.sum(), diagonal.clone()
    factor = z.new_zeros(len(z), 0)
    while factor.shape[1] < landmarks and float(left.sum()) > 1e-12 * float(total):
        index = _draw(left, min(BLOCK, landmarks - factor.shape[1]), generator)
        columns = torch.exp(squared_distances(z, z[index]) / (-2 * bandwidth**2)) * scale[:, None] * scale[index]
        columns = columns - factor @ factor[index].T
        values, vectors = torch.linalg.eigh(columns[index])
        # Directions that the block's rows share up to rounding carry no information.
        alive = values > float(diagonal.max()) * 1e-13
        factor = torch.cat([factor, columns @ (vectors[:, alive] * values[alive].rsqrt())], 1)
        left = (diagonal - factor.square().sum(1)).clamp(min=0.0)
        left[index] = 0.0
    leading = torch.linalg.eigvalsh(factor.T @ factor).clamp(0.0, 1.0)
    unseen = len(z) - len(leading)
    rest = (total - leading.sum()).clamp(min=0.0) / max(unseen, 1)
    return torch.cat([rest.expand(unseen), leading])


def _row_scale(z: Tensor, bandwidth: float, normalisation: Normalisation) -> Tensor:
    """The diagonal ``a`` for which the diffusion matrix is ``a_i G_ij a_j``."""

    def times(vector: Tensor) -> Tensor:
        parts = (squared_distances(part, z) / (-2 * bandwidth**2) for part in z.split(CHUNK))
        return torch.cat([torch.exp(part) @ vector for part in parts])

    scale = times(torch.ones_like(z[:, 0])).rsqrt()
    # Row sums of K are scale * (G scale): both roots come together.
    return scale * (scale * times(scale)).rsqrt() if normalisation == "anisotropic" else scale


def _draw(weights: Tensor, count: int, generator: Noise) -> Tensor:
    """Indices without replacement, each next with a chance in proportion to its weight; fewer where most are 0."""
    alive = int((weights > 0).sum())
    keys = rand((len(weights),), generator).to(weights.device).log() / weights
    return keys.topk(min(count, alive)).indices
