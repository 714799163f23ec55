"""The diffusion operator of a set of features and its spectrum: how a random walk over the rows forgets its start."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.neighbours import k_nearest
from clarkia._math.pairwise import median_distance, squared_distances
from clarkia.measures.representations.sampling import subsample
from clarkia.random import Noise

PAIRED = 2_000  # rows whose distances the default bandwidth is the median of
Normalisation: TypeAlias = Literal["anisotropic", "random-walk"]


def affinities(z: Float64[Tensor, "n d"], bandwidth: float, neighbours: int | None = None) -> Float64[Tensor, "n n"]:
    """How near the rows are to each other.

    Args:
        z: Rows.
        bandwidth: s of the Gaussian kernel ``exp(-|z_i - z_j|^2 / (2 s^2))``.
        neighbours: Where given, 1 between rows of which one is among so many nearest of the other (and on the
            diagonal), else 0, instead of the kernel.
    """
    if neighbours is None:
        return torch.exp(squared_distances(z, z) / (-2 * bandwidth**2))
    index = k_nearest(z, z, neighbours, exclude_self=True)[1]
    near = torch.eye(len(z), dtype=torch.float64, device=z.device).scatter(1, index, 1.0)
    return torch.maximum(near, near.T)


def diffusion_matrix(
    affinity: Float64[Tensor, "n n"], normalisation: Normalisation = "anisotropic"
) -> Float64[Tensor, "n n"]:
    """The symmetric matrix that is similar to the diffusion operator, and so has its eigenvalues.

    With ``Q`` the row sums of the affinities G: ``"random-walk"`` is similar to ``Q^-1 G``; ``"anisotropic"`` first
    takes the density out, ``K = Q^-1/2 G Q^-1/2``, and is similar to ``R^-1 K`` with ``R`` the row sums of K. Both
    agree where all rows have the same density.
    """
    root = affinity.sum(1).rsqrt()
    walk = root[:, None] * affinity * root
    if normalisation == "random-walk":
        return walk
    root = walk.sum(1).rsqrt()
    return root[:, None] * walk * root


def spectrum(matrix: Float64[Tensor, "n n"]) -> Float64[Tensor, " n"]:
    """Eigenvalues of a diffusion matrix in [0, 1], ascending; differentiable.

    Affinities of nearest neighbours are no kernel and have negative eigenvalues, which count by their size: an even
    number of steps cannot tell the two apart.
    """
    return torch.linalg.eigvalsh(matrix).abs().clamp(max=1.0)


def default_bandwidth(z: Float64[Tensor, "n d"], *, generator: Noise = None) -> float:
    """Median distance between rows over sqrt(2); where most rows are equal, their root mean squared distance instead.

    1 where all rows are equal, for then every bandwidth is as good.
    """
    typical = median_distance(subsample(z, PAIRED, generator), max_rows=PAIRED) / 2**0.5
    if typical > 0:
        return typical
    spread = float(z.var(0, unbiased=False).sum()) ** 0.5
    return spread if spread > 0 else 1.0


def check_normalisation(normalisation: str) -> None:
    """Raise ``ValueError`` for an unknown normalisation."""
    if normalisation not in get_args(Normalisation):
        raise ValueError(f"normalisation: expected one of {list(get_args(Normalisation))}, found {normalisation!r}.")
