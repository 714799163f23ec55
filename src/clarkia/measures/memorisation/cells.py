"""The test for copying by rank sums within cells of the training rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy import stats
from torch import Tensor

from clarkia.measures.inputs import pair
from clarkia.measures.memorisation.neighbours import nearest_distance
from clarkia.measures.memorisation.rates import whole_number
from clarkia.random import Noise

MOST_DIMENSIONS = 64
LEAST = 20  # generated rows that a cell must hold


@dataclass(frozen=True, eq=False)
class CopyTest:
    """Whether generated rows lie nearer to the training rows than held-out rows do.

    Attributes:
        statistic: Mean of the cells' z-scores, weighted by their shares of held-out rows: far below 0 copies, far above
            0 underfits.
        standard_error: Its standard deviation for a generator of fresh rows, where its mean is 0.
        p_value: Probability of a statistic at least as low from such a generator.
        z: The z-score of each cell; NaN in cells that are not judged, ``(cells,)``.
        generated: Generated rows in each cell.
        holdout: Held-out rows in each cell.
        judged: Share of the held-out rows that lie in judged cells.
    """

    statistic: float
    standard_error: float
    p_value: float
    z: Float64[np.ndarray, " cells"]
    generated: np.ndarray
    holdout: np.ndarray
    judged: float


@torch.no_grad()
def copy_test(
    train: Any,
    holdout: Any,
    generated: Any,
    *,
    num_cells: int = 3,
    least: int = LEAST,
    generator: Noise = None,
) -> CopyTest:
    """Compare distances to the nearest training row, cell by cell, by Mann and Whitney's test.

    Cells are k-means clusters of the training rows, on at most 64 principal axes. Over the whole space a generator
    that copies in one region and is off in another could pass.

    Args:
        train: Features of training rows, ``(n, d)``.
        holdout: Features of other rows of the same law, ``(h, d)``.
        generated: Features of generated rows, ``(m, d)``.
        num_cells: Number of clusters.
        least: Generated rows that a cell must hold to be judged.
        generator: Source of the clusters' starts.

    Returns:
        The statistic with the cells it comes from; NaN where no cell could be judged.

    Raises:
        ValueError: Sets that are no finite matrices of one width, or more cells than distinct training rows.

    Source: A Non-Parametric Test to Detect Data-Copying in Generative Models (2020).
    """
    train, holdout = pair(train, holdout, ("train", "holdout"))
    _, generated = pair(train, generated, ("train", "generated"))
    if least < 1:
        raise ValueError(f"least: expected at least 1, found {least}.")
    distinct = len(train.unique(dim=0))
    if not 1 <= num_cells <= distinct:
        raise ValueError(f"num_cells: expected 1 to {distinct}, the number of different rows, found {num_cells}.")
    cells = cells_of(train, generated, holdout, num_cells=num_cells, generator=generator)
    made, fresh = (nearest_distance(rows, train) for rows in (generated, holdout))
    return from_distances((made, fresh), cells, num_cells, least)


def cells_of(
    train: Tensor, generated: Tensor, holdout: Tensor, *, num_cells: int, generator: Noise = None
) -> tuple[np.ndarray, np.ndarray]:
    """Number of the training rows' cluster that each generated and each held-out row belongs to."""
    from sklearn.cluster import KMeans

    known, made, fresh = (rows.numpy(force=True) for rows in _leading_axes(train, generated, holdout))
    options: dict[str, Any] = {"n_init": 10, "random_state": whole_number(generator)}
    clusters: Any = KMeans(num_cells, **options).fit(known)
    return clusters.predict(made), clusters.predict(fresh)


def from_distances(
    distances: tuple[np.ndarray, np.ndarray], cells: tuple[np.ndarray, np.ndarray], num_cells: int, least: int = LEAST
) -> CopyTest:
    """The test from distances to the nearest training row and cell numbers, each of generated and of held-out rows."""
    (generated, holdout), (generated_cell, holdout_cell) = distances, cells
    made, fresh = (np.bincount(cell, minlength=num_cells) for cell in cells)
    weight = np.where((made >= least) & (fresh > 0), fresh / len(holdout), 0.0)
    z = np.full(num_cells, np.nan)
    for cell in np.flatnonzero(weight):
        z[cell] = rank_z(generated[generated_cell == cell], holdout[holdout_cell == cell])
    judged = weight.sum()
    if not judged > 0:
        return CopyTest(math.nan, math.nan, math.nan, z, made, fresh, 0.0)
    statistic = float(np.nansum(z * weight) / judged)
    error = float(np.sqrt((weight**2).sum()) / judged)  # the cells' scores are independent and of variance 1
    return CopyTest(statistic, error, float(stats.norm.cdf(statistic / error)), z, made, fresh, float(judged))


def rank_z(first: Float64[np.ndarray, " m"], second: Float64[np.ndarray, " n"]) -> float:
    """Standardised number of pairs in which ``first`` is larger, ties counted half; 0 where all numbers are equal."""
    m, n = len(first), len(second)
    pooled = np.concatenate([first, second])
    ranks = stats.rankdata(pooled)
    larger = ranks[:m].sum() - m * (m + 1) / 2
    _, ties = np.unique(pooled, return_counts=True)
    total = m + n
    variance = m * n / 12 * (total + 1 - (ties**3.0 - ties).sum() / (total * (total - 1)))
    return float((larger - m * n / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def _leading_axes(train: Tensor, *others: Tensor) -> list[Tensor]:
    """The sets on the training rows' first principal axes, or as they are where there are few columns."""
    if train.shape[1] <= MOST_DIMENSIONS:
        return [train, *others]
    centre = train.mean(0)
    axes = torch.linalg.svd(train - centre, full_matrices=False).Vh[:MOST_DIMENSIONS]
    return [(rows - centre) @ axes.T for rows in (train, *others)]
