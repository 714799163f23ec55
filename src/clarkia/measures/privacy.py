"""Privacy of synthetic rows: copies, nearest records, membership and attribute inference."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from clarkia._math.neighbours import nearest_gower
from clarkia.measures.features import one_hot
from clarkia.measures.rows import MixedRows, num_classes


def closest_record_distances(reference: Any, *others: Any) -> tuple[Float64[np.ndarray, " n"], ...]:
    """Distance of every row of ``others[0]`` to its closest row in ``reference`` and in each of the further sets.

    ``closest_record_distances(real, synthetic, holdout)`` gives the distances of synthetic rows to real and to
    holdout rows. A numeric difference counts as a share of the reference column's range, a differing category as 2
    (the L1 distance of one-hot vectors); missing numbers are taken at the reference's mean.
    """
    parts = [MixedRows.of(rows) for rows in (reference, *others)]
    numeric = parts[0].numeric
    present = ~np.isnan(numeric)
    mean = np.where(present, numeric, 0.0).sum(0) / np.maximum(present.sum(0), 1)
    width = np.where(present, numeric, -np.inf).max(0, initial=-np.inf) - np.where(present, numeric, np.inf).min(
        0, initial=np.inf
    )
    width = np.where(width > 0, width, 1.0)
    classes = num_classes(*parts)
    encoded = [
        (
            torch.from_numpy(np.where(np.isnan(rows.numeric), mean, rows.numeric) / width),
            torch.from_numpy(one_hot(rows.categorical, classes).astype(np.float32)),
        )
        for rows in parts
    ]
    return tuple(nearest_gower(*encoded[1], *encoded[i])[0].numpy() for i in range(len(parts)) if i != 1)


def closer_share(to_real: np.ndarray, to_holdout: np.ndarray, *, ties: str = "split") -> Float64[np.ndarray, " n"]:
    """Indicator that a row is closer to the real rows than to the holdout; its mean is 0.5 for fresh rows.

    Args:
        to_real: Distances to the closest real row, shape (n,).
        to_holdout: Distances to the closest row of a holdout of equal size, shape (n,).
        ties: "split" counts an equal distance as one half; "strict" counts it as not closer, which makes fresh rows
            of coarse columns look private.

    Returns:
        Values 0, 0.5 or 1, shape (n,).
    """
    if ties not in ("split", "strict"):
        raise ValueError(f"ties must be 'split' or 'strict', not {ties!r}.")
    # Sums of the same terms in another order differ by rounding; such distances are equal.
    tied = np.isclose(to_real, to_holdout, rtol=1e-9, atol=1e-12)
    return np.where(tied, 0.5 if ties == "split" else 0.0, (to_real < to_holdout).astype(np.float64))
