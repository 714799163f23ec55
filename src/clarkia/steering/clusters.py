"""Drafts that differ: one of each cluster of their features."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def representatives(features: Float[Tensor, "n d"], count: int, *, seed: int = 0) -> Int[Tensor, " count"]:
    """The rows nearest to the centres of k-means clusters, ``count`` different ones, in the order of the rows.

    Args:
        features: ``(n, d)``.
        count: How many clusters; where rows coincide and there are fewer, the first other rows fill up.
        seed: Of k-means, restarted ten times from spread-out centres.

    Raises:
        ValueError: More clusters than rows.
    """
    from sklearn.cluster import KMeans

    rows = features.detach().double().cpu().numpy()
    if not 1 <= count <= len(rows):
        raise ValueError(f"count: expected from 1 to {len(rows)} clusters, one a row at most, found {count}.")
    different = len(np.unique(rows, axis=0))
    means = KMeans(min(count, different), n_init=10, random_state=seed).fit(rows)  # type: ignore[arg-type]
    gap = np.linalg.norm(rows - means.cluster_centers_[means.labels_], axis=1)
    chosen = {int(np.flatnonzero(means.labels_ == label)[gap[means.labels_ == label].argmin()]) for label in
              range(means.n_clusters)}  # fmt: skip
    others = (row for row in range(len(rows)) if row not in chosen)
    chosen |= {next(others) for _ in range(count - len(chosen))}
    return torch.tensor(sorted(chosen))


def first_component_scores(parts: Float[Tensor, "n p d"]) -> Float[Tensor, "n p"]:
    """Each row's scores on the first principal component of its own parts, such as a picture's patches.

    The sign of a component is arbitrary; here the score of largest magnitude is positive, whatever the orientation of
    the feature space, so that like rows get like scores.
    """
    centred = (parts - parts.mean(1, keepdim=True)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    scores = left[..., 0] * values[:, :1]
    largest = scores.gather(1, scores.abs().argmax(1, keepdim=True))
    return scores * torch.where(largest < 0, -1.0, 1.0)
