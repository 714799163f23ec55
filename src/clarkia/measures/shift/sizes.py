"""How far each domain lies from the source, and whether that tells how much accuracy is lost there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from clarkia.measures.inputs import features
from clarkia.measures.kernels import Gaussian, gaussian_median
from clarkia.measures.two_sample.frechet import frechet_distance
from clarkia.measures.two_sample.mmd import mmd2


@dataclass(frozen=True)
class ShiftSize:
    """Distance of a domain's features from the source's.

    Attributes:
        mmd2: Unbiased squared maximum mean discrepancy, one Gaussian kernel for all domains; may be negative.
        frechet: Squared Frechet distance; above 0 even of one law, see ``frechet_floor``.
    """

    mmd2: float
    frechet: float


def shift_sizes(embeddings: Any, domains: Any, source: str, *, bandwidth: float | None = None) -> dict[str, ShiftSize]:
    """Measure the shift of every domain in one fixed embedding.

    Args:
        embeddings: Features of all rows, ``(n, d)``, of an extractor that was fixed before.
        domains: Domain of each row, ``(n,)``.
        source: Name of the domain to compare with.
        bandwidth: Of the kernel; None for the median distance within the source.

    Returns:
        By domain, the source left out.

    Raises:
        ValueError: Features that are not finite, an unknown source, lengths that differ.
    """
    rows, names = features(embeddings, "embeddings").detach(), np.asarray(domains).astype(str)
    if names.shape != (len(rows),) or source not in names:
        raise ValueError(f"domains: expected {len(rows)} names, {source!r} among them, found shape {names.shape}.")
    parts = {str(name): rows[np.flatnonzero(names == name)] for name in dict.fromkeys(names.tolist())}
    origin = parts.pop(source)
    kernel = gaussian_median(origin) if bandwidth is None else Gaussian(bandwidth)
    return {
        name: ShiftSize(float(mmd2(origin, part, kernel=kernel)), float(frechet_distance(origin, part)))
        for name, part in parts.items()
    }


def rank_correlation(sizes: Any, drops: Any) -> float:
    """Spearman's correlation of shift sizes and accuracy drops, each ``(k,)``; NaN where either does not vary.

    Raises:
        ValueError: Fewer than three pairs, or lengths that differ.

    Source: The Proof and Measurement of Association between Two Things (1904).
    """
    a, b = np.asarray(sizes, dtype=np.float64), np.asarray(drops, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 3:
        raise ValueError(f"drops: expected at least 3, one for each of sizes, found shapes {b.shape} and {a.shape}.")
    if not np.ptp(a) or not np.ptp(b):
        return float("nan")
    ranks = np.stack([stats.rankdata(a), stats.rankdata(b)])
    return float(np.corrcoef(ranks)[0, 1])
