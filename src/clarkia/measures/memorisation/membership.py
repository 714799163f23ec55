"""Does a model find the rows it was trained on likelier than others?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from clarkia.measures.detection import placements
from clarkia.measures.intervals import Interval, mean_interval
from clarkia.measures.memorisation.rates import numpy_stream
from clarkia.measures.rows import as_array
from clarkia.random import Noise


@dataclass(frozen=True)
class MembershipGap:
    """How a model's scores of training rows differ from those of held-out rows.

    Attributes:
        gap: Mean score of training rows less that of held-out rows, in the score's units; 0 without memorisation.
        gap_interval: Its 95 % bootstrap interval over both sets.
        auc: Probability that a training row scores above a held-out one, ties counted half; 0.5 without memorisation.
        auc_interval: Its interval.
    """

    gap: float
    gap_interval: Interval
    auc: float
    auc_interval: Interval


def membership_gap(train_scores: Any, holdout_scores: Any, *, generator: Noise = None) -> MembershipGap:
    """Attack membership by the model's own score of a row: its log-likelihood, or its negative training loss.

    Small distances of samples to training rows prove a leak, large ones do not prove that there is none; a score that
    is higher on the training rows is a leak that no distance shows.

    Args:
        train_scores: One number a training row, ``(n,)``, higher where the model finds the row likelier.
        holdout_scores: The same of rows that were not trained on, ``(h,)``.
        generator: Source of the bootstrap.

    Raises:
        ValueError: Scores that are not finite numbers in one row.

    Source: Membership Inference Attacks From First Principles (2022).
    """
    train, holdout = _check(train_scores, "train_scores"), _check(holdout_scores, "holdout_scores")
    rng = numpy_stream(generator)
    above, below = placements(train, holdout), 1 - placements(holdout, train)
    auc = float(above.mean())
    around = mean_interval(above - auc, below - auc, rng=rng)
    return MembershipGap(
        gap=float(train.mean() - holdout.mean()),
        gap_interval=mean_interval(train, -holdout, rng=rng),
        auc=auc,
        auc_interval=Interval(auc + around.low, auc + around.high).clip(0, 1),
    )


def _check(scores: Any, name: str) -> Float64[np.ndarray, " n"]:
    array = as_array(scores).astype(np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name}: expected one number a row, shape (n,), found shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}: expected finite numbers, found {array[~np.isfinite(array)][0]} in row "
            f"{int(np.flatnonzero(~np.isfinite(array))[0])}."
        )
    return array
