"""Memorisation of feature vectors: everything that distances to the training rows tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.inputs import pair
from clarkia.measures.memorisation.cells import CopyTest, cells_of, from_distances
from clarkia.measures.memorisation.membership import MembershipGap, membership_gap
from clarkia.measures.memorisation.neighbours import find_neighbours, nearest_distance
from clarkia.measures.memorisation.rates import Rate, median, numpy_stream, share
from clarkia.measures.privacy import closer_share, exact_copies
from clarkia.random import Noise, rand

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
COPY = 1 / 3
"""Ratio of first to second distance below which a row counts as a copy of its nearest training row."""


@dataclass(frozen=True, eq=False)
class Memorisation:
    """How close m generated rows come to the training rows, and how close held-out rows do.

    Small distances show that rows were copied; large ones do not show that nothing leaked.

    Attributes:
        closer: Share of generated rows nearer to a training than to a held-out row, sets of one size, ties half
            ("DCR share"); 0.5 for fresh rows, ``p + (1 - p) / 2`` where a share p is copied.
        levels: Probabilities of the quantiles, ``(q,)``.
        quantiles: Quantiles of the distance of generated rows to the nearest training row, ``(q,)``.
        holdout_quantiles: The same of held-out rows, ``(q,)``.
        copied: Share of generated rows whose nearest training row is at less than a third of the distance of the
            second nearest.
        calibrated: Median distance to the nearest training row over the mean of the nearest fifty.
        authentic: Share of generated rows farther from their nearest training row than that is from its own nearest
            neighbour. For fresh rows it is a third on a line and grows with the dimension: read it beside its null.
        copy_test: Rank test of the distances, cell by cell.
        exact: Share of generated rows equal to a training row.
        near: Share equal to one after rounding; None where ``decimals`` was not given.
        membership: Gap of the model's own scores; None where they were not given.
    """

    closer: Rate
    levels: tuple[float, ...]
    quantiles: Float64[np.ndarray, " q"]
    holdout_quantiles: Float64[np.ndarray, " q"]
    copied: Rate
    calibrated: Rate
    authentic: Rate
    copy_test: CopyTest
    exact: Rate
    near: Rate | None
    membership: MembershipGap | None


@torch.no_grad()
def memorisation(
    train: Any,
    holdout: Any,
    generated: Any,
    *,
    scores: tuple[Any, Any] | None = None,
    decimals: int | None = None,
    num_cells: int = 3,
    generator: Noise = None,
) -> Memorisation:
    """Measure whether generated rows repeat training rows.

    Distances are Euclidean between features: scale the columns first, or take features of a network. Training rows
    that occur several times count once. For tables of mixed columns see `closer_to_real` and `exact_copies`.

    Args:
        train: Features of the training rows, ``(n, d)``, at least two different ones.
        holdout: Features of rows of the same law that were not trained on, ``(h, d)``; best as many as there are
            training rows.
        generated: Features of generated rows, ``(m, d)``.
        scores: The model's log-likelihood (or negative loss) of the training and of the held-out rows, for
            `membership_gap`.
        decimals: Decimal places to which near duplicates agree.
        num_cells: Cells of the rank test.
        generator: Source of the subsample that makes the two sets equal, of the cells and of the bootstrap.

    Returns:
        Every number with its interval and what held-out rows give.

    Raises:
        ValueError: Sets that are no finite matrices of one width, or fewer than two different training rows.

    Sources: Extracting Training Data from Diffusion Models (2023); How Faithful is your Synthetic Data? Sample-level
    Metrics for Evaluating and Auditing Generative Models (2022); A Non-Parametric Test to Detect Data-Copying in
    Generative Models (2020).
    """
    train, holdout = pair(train, holdout, ("train", "holdout"))
    _, generated = pair(train, generated, ("train", "generated"))
    if not bool((train != train[0]).any()):
        raise ValueError(f"train: expected at least 2 different rows, found {len(train)} equal ones.")
    rng = numpy_stream(generator)
    if num_cells < 1:
        raise ValueError(f"num_cells: expected at least 1, found {num_cells}.")
    num_cells = min(num_cells, len(train.unique(dim=0)))
    made, fresh = find_neighbours(train, generated, holdout)
    cells = cells_of(train, generated, holdout, num_cells=num_cells, generator=generator)
    near = None
    if decimals is not None:
        near = _duplicates(*(rows.round(decimals=decimals) for rows in (train, holdout, generated)), rng=rng)
    return Memorisation(
        closer=share(_closer(train, holdout, generated, made.nearest, generator), 0.5, rng),
        levels=LEVELS,
        quantiles=np.quantile(made.nearest, LEVELS),
        holdout_quantiles=np.quantile(fresh.nearest, LEVELS),
        copied=share((made.ratio < COPY).astype(np.float64), float((fresh.ratio < COPY).mean()), rng),
        calibrated=median(made.calibrated, fresh.calibrated, rng),
        authentic=share(made.authentic, float(fresh.authentic.mean()), rng),
        copy_test=from_distances((made.nearest, fresh.nearest), cells, num_cells),
        exact=_duplicates(train, holdout, generated, rng=rng),
        near=near,
        membership=None if scores is None else membership_gap(*scores, generator=generator),
    )


def _closer(train: Tensor, holdout: Tensor, generated: Tensor, known: np.ndarray, generator: Noise) -> np.ndarray:
    """For each generated row 1 where the training rows are nearer, 0 where as many held-out rows are, half for ties.

    Its distances to all training rows are ``known``; the larger of the two sets is cut to the size of the smaller.
    """
    size = min(len(train), len(holdout))
    distances = [known if len(train) == size else nearest_distance(generated, _some(train, size, generator))]
    distances.append(nearest_distance(generated, _some(holdout, size, generator)))
    return closer_share(*distances)


def _some(rows: Tensor, size: int, generator: Noise) -> Tensor:
    if len(rows) == size:
        return rows
    return rows[rand((len(rows),), generator).argsort()[:size].to(rows.device)]


def _duplicates(train: Tensor, holdout: Tensor, generated: Tensor, *, rng: np.random.Generator) -> Rate:
    """Share of generated rows that equal a training row, and of held-out rows."""
    made, fresh = (exact_copies(train, rows).copied for rows in (generated, holdout))
    return share(made.astype(np.float64), float(fresh.mean()), rng)
