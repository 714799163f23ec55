"""Variety and realism among the samples of one condition, by similarity of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clarkia._math.pairwise import pair_mean
from clarkia.measures.inputs import features, pair

CHUNK = 2048


def conditional_diversity(samples: Any) -> float:
    """One less the mean cosine similarity of two samples of one condition; 0 where all are alike, larger is better.

    Args:
        samples: Features of the samples of one condition, ``(n, d)``, at least two rows, none of them 0.

    Raises:
        ValueError: Fewer than two rows, or a row of zeros, which has no direction.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    rows = _directions(features(samples, "samples"), "samples")
    n = len(rows)
    if n < 2:
        raise ValueError(f"samples: expected at least 2 rows, found {n}.")
    mean = float(pair_mean(lambda a, b: a @ b.mT, rows, rows, chunk=CHUNK))
    return 1 - (n * mean - 1) / (n - 1)  # without the pairs of a row with itself, whose similarity is 1


def conditional_realism(samples: Any, real: Any) -> float:
    """Mean over samples of the cosine similarity to the most similar real row; at most 1, larger is better.

    Args:
        samples: Features of the samples of one condition, ``(n, d)``.
        real: Features of real rows of that condition, ``(m, d)``.

    Raises:
        ValueError: Sets that do not fit, or a row of zeros.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    samples, real = pair(samples, real, ("samples", "real"))
    rows, known = _directions(samples, "samples"), _directions(real, "real")
    best = torch.full((len(rows),), -torch.inf, dtype=torch.float64, device=rows.device)
    for block in known.split(CHUNK):
        best = torch.maximum(best, torch.cat([(part @ block.mT).amax(1) for part in rows.split(CHUNK)]))
    return float(best.mean())


def _directions(rows: Tensor, name: str) -> Tensor:
    length = rows.norm(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError(f"{name}: expected rows other than 0, found one in row {int(length.argmin())}.")
    return rows / length
