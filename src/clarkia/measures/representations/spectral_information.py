"""How much the geometry of features tells about labels or inputs: entropy minus entropy within groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features
from clarkia.measures.representations.diffusion import (
    Normalisation,
    affinities,
    default_bandwidth,
    diffusion_matrix,
    spectrum,
)
from clarkia.measures.representations.sampling import draw_rows
from clarkia.measures.representations.spectral_entropy import check_options, entropy_of, equal_width_bins
from clarkia.random import Noise, rand


@dataclass(frozen=True)
class SpectralInformation:
    """A diffusion spectral mutual information.

    Attributes:
        value: Entropy that knowing the group takes away; 0 where groups lie like random subsets.
        standard_error: Of the value, from the spread over random subsets.
        bandwidth: s of the kernel, the same for all subsets.
        num_rows: Rows it was computed on.
        group_sizes: Rows of each group.
    """

    value: float
    standard_error: float
    bandwidth: float
    num_rows: int
    group_sizes: tuple[int, ...]

    def __float__(self) -> float:
        return self.value


def diffusion_spectral_mutual_information(
    z: Any,
    y: Any,
    *,
    bandwidth: float | None = None,
    t: float = 1,
    normalisation: Normalisation = "anisotropic",
    base: float = 2,
    repetitions: int | None = None,
    num_groups: int = 10,
    max_samples: int = 10_000,
    generator: Noise = None,
) -> SpectralInformation:
    """Mutual information of features with labels, from diffusion spectral entropies.

    ``sum_c n_c / n [mean_r DSE(random subset of n_c rows) - DSE(rows of group c)]``: a group is compared with subsets
    of its own size, for the entropy grows with the number of rows.

    Args:
        z: Features ``(n, d)``.
        y: Integer labels ``(n,)``; numbers ``(n,)`` or vectors ``(n, e)``, which `groups` makes labels of.
        bandwidth: s of the kernel; the median distance over sqrt(2) of all rows where None.
        t: Power of the eigenvalues.
        normalisation: As in `diffusion_spectral_entropy`.
        base: Of the logarithm; 2 for bits.
        repetitions: Random subsets a group; None for 5 of groups of 50 rows or more and 20 of smaller ones.
        num_groups: Groups that numbers and vectors are put into.
        max_samples: Use a random sub-sample of larger sets.
        generator: Source of subsets and groups.

    Returns:
        The information with its standard error.

    Raises:
        ValueError: Features that are not finite rows, labels that do not fit, numbers out of their ranges.

    Source: Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral Entropy
    (2023).
    """
    z = features(z, "z").detach()
    check_options(bandwidth, t, normalisation, base)
    labels = groups(y, num_groups, generator=generator)
    if len(labels) != len(z):
        raise ValueError(f"y: expected {len(z)} labels, one a row of z, found {len(labels)}.")
    if repetitions is not None:
        check_count(repetitions, "repetitions")
    if len(z) > check_count(max_samples, "max_samples"):
        index = draw_rows(len(z), max_samples, generator)
        z, labels = z[index.to(z.device)], labels[index]
    s = float(bandwidth) if bandwidth is not None else default_bandwidth(z, generator=generator)

    def entropy(index: Tensor) -> float:
        rows = z[index.to(z.device)]
        matrix = diffusion_matrix(affinities(rows, s), normalisation)
        return float(entropy_of(spectrum(matrix), t)) / math.log(base)

    value = variance = 0.0
    sizes = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        size, share = len(members), len(members) / len(z)
        sizes.append(size)
        if size == len(z):
            continue  # the one group is the only subset of its size
        count = repetitions or (5 if size >= 50 else 20)
        draws = np.array([entropy(draw_rows(len(z), size, generator)) for _ in range(count)])
        value += share * (float(draws.mean()) - entropy(members))
        variance += share**2 * (float(draws.var(ddof=1)) / count if count > 1 else math.nan)
    return SpectralInformation(value, math.sqrt(variance), s, len(z), tuple(sizes))


def groups(y: Any, num_groups: int = 10, *, generator: Noise = None) -> Int64[Tensor, " n"]:
    """Make labels of anything: integers stay, numbers go into equal-width bins, vectors into spectral clusters.

    Compute the groups of inputs once and pass them on as labels: clustering is slow, and values of different
    groupings cannot be compared.

    Args:
        y: Integers or booleans ``(n,)``, numbers ``(n,)`` or ``(n, 1)``, or vectors ``(n, e)``.
        num_groups: Number of bins or clusters.
        generator: Source of the clustering's start.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: No rows, more than two axes, values that are not finite, fewer vectors than groups.
    """
    check_count(num_groups, "num_groups")
    y = torch.as_tensor(y)
    if y.ndim not in (1, 2) or not len(y) or (y.ndim == 2 and not y.is_floating_point() and y.shape[1] > 1):
        raise ValueError(f"y: expected labels or numbers (n,) or vectors (n, e), found {y.dtype} {tuple(y.shape)}.")
    if not y.is_floating_point():
        return y.reshape(-1).long().cpu()
    vectors = features(y.reshape(len(y), -1), "y").detach()
    if vectors.shape[1] == 1:
        return equal_width_bins(vectors, num_groups).flatten().cpu()
    if len(vectors) <= num_groups:
        raise ValueError(f"y: expected more than {num_groups} vectors for {num_groups} clusters, found {len(vectors)}.")
    return torch.from_numpy(_spectral_clusters(vectors.cpu().numpy(), num_groups, generator)).long()


def _spectral_clusters(x: np.ndarray, count: int, generator: Noise) -> np.ndarray:
    """Spectral clusters of a graph of ten nearest neighbours, mended to be connected."""
    import warnings

    from sklearn.cluster import SpectralClustering

    seed = int(float(rand((1,), generator)) * 2**31)
    model = SpectralClustering(
        count, affinity="nearest_neighbors", n_neighbors=min(10, len(x) - 1), random_state=seed, assign_labels="kmeans"
    )
    with warnings.catch_warnings():
        # Far clusters make a graph in parts; its zero eigenvalues then name the parts, which is what is wanted.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        return model.fit_predict(x)
