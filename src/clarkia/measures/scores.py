"""How well does a score tell unusual from usual? Areas and rates on the ROC curve; larger means more unusual."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from clarkia.measures.intervals import Interval, percentile_interval
from clarkia.measures.rows import stream

DRAWS = 200
CELLS = 2_000_000  # numbers held at once while resampling
MAP_STEPS = 2000  # thresholds of the resampled curves of maps; the value itself uses every threshold


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % bootstrap interval.

    Attributes:
        value: The number on the data.
        interval: Its percentile interval over resamples; of no width where every resample gives the same, as it does
            for two groups that do not overlap.
    """

    value: float
    interval: Interval

    def __float__(self) -> float:
        return self.value


def auroc(unusual: Any, scores: Any, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Area under the ROC curve: the chance that an unusual row scores above a usual one, a tie counting half.

    Args:
        unusual: Which rows are unusual, booleans or zeros and ones ``(n,)``; both kinds must occur.
        scores: Scores ``(n,)``, larger for more unusual; may be infinite but not NaN.
        draws: Resamples of the usual and of the unusual rows.
        seed: Seed of the resamples.

    Returns:
        0.5 for a score that knows nothing, 1 for one that parts the two kinds.

    Raises:
        ValueError: Only one kind of rows, lengths that differ, a NaN.

    Source: An introduction to ROC analysis (2006).
    """
    return _estimate(unusual, scores, _area_under_roc, draws, seed)


def aupr(unusual: Any, scores: Any, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Area under the precision-recall curve as average precision, the unusual rows being the positives.

    Args:
        unusual: Which rows are unusual, booleans or zeros and ones ``(n,)``; both kinds must occur.
        scores: Scores ``(n,)``, larger for more unusual; may be infinite but not NaN.
        draws: Resamples of the usual and of the unusual rows.
        seed: Seed of the resamples.

    Returns:
        The share of unusual rows for a score that knows nothing, 1 for one that parts the two kinds.

    Raises:
        ValueError: Only one kind of rows, lengths that differ, a NaN.

    Source: The Relationship Between Precision-Recall and ROC Curves (2006).
    """
    return _estimate(unusual, scores, _average_precision, draws, seed)


def fpr_at_recall(unusual: Any, scores: Any, *, recall: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Share of usual rows taken for unusual at the strictest threshold that catches a share of the unusual ones.

    The threshold is one of the scores, and rows that score as much are caught: nothing is interpolated.

    Args:
        unusual: Which rows are unusual, booleans or zeros and ones ``(n,)``; both kinds must occur.
        scores: Scores ``(n,)``, larger for more unusual; may be infinite but not NaN.
        recall: Share of the unusual rows to catch at least, in (0, 1].
        draws: Resamples of the usual and of the unusual rows.
        seed: Seed of the resamples.

    Returns:
        0 for a score that parts the two kinds; about ``recall`` for one that knows nothing.

    Raises:
        ValueError: Only one kind of rows, lengths that differ, a NaN, a recall out of range.

    Source: A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks (2016).
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall: expected a share in (0, 1], found {recall!r}.")

    def rate(caught: np.ndarray, alarms: np.ndarray) -> np.ndarray:
        # The slack lets 0.95 x 20 rows be 19 although 0.95 is no binary fraction.
        needed = np.ceil(recall * caught[-1] - 1e-9)
        first = (caught >= needed).argmax(0)
        return np.take_along_axis(alarms, first[None], 0)[0] / alarms[-1]

    return _estimate(unusual, scores, rate, draws, seed)


def aupro(masks: Any, maps: Any, *, max_fpr: float = 0.3, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Area under the per-region overlap curve: the mean covered share of unusual regions against false alarms.

    A region is a set of marked pixels of one image that touch, corners included; each counts alike, whatever its size.
    The curve runs over all thresholds, false alarms are the share of unmarked pixels of all images, and the area up to
    ``max_fpr`` is divided by ``max_fpr``.

    Args:
        masks: Which pixels are unusual, ``(n, height, width)``; at least one region and one usual pixel.
        maps: Scores of the same shape, larger for more unusual.
        max_fpr: Share of false alarms up to which the curve counts, in (0, 1].
        draws: Resamples of the images.
        seed: Seed of the resamples.

    Returns:
        1 where every region scores above all else, ``max_fpr / 2`` for scores that know nothing.

    Raises:
        ValueError: Shapes that differ or are not of three axes, no region, no usual pixel, a NaN.

    Source: Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent Embeddings (2019).
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr: expected a share in (0, 1], found {max_fpr!r}.")
    marked, heights = _array(masks), _array(maps).astype(np.float64)
    if marked.ndim != 3 or marked.shape != heights.shape:
        raise ValueError(
            f"maps: expected the shape (n, height, width) of the masks, found {heights.shape} and "
            f"{marked.shape} for the masks."
        )
    unusual, values = checked_scores(marked.reshape(-1), heights.reshape(-1), ("masks", "maps"))
    overlap, regions = _shares_of_regions(unusual.reshape(marked.shape))
    usual = (~unusual).astype(np.float64)
    ones = np.ones(1, dtype=np.float64)

    levels, places = np.unique(-values, return_inverse=True)
    covered = np.bincount(places, overlap.reshape(-1), len(levels))[:, None]
    alarms = np.bincount(places, usual, len(levels))[:, None]
    value = float(_area_under_overlap(covered, alarms, ones * regions.sum(), max_fpr)[0])

    # A coarser ladder for the resamples: per image, what each step of it adds.
    edges = np.unique(np.quantile(levels, np.linspace(0, 1, MAP_STEPS), method="nearest"))
    steps = np.searchsorted(edges, levels)[places]
    cells = steps + len(edges) * np.repeat(np.arange(len(marked)), marked[0].size)
    added = [np.bincount(cells, w, len(edges) * len(marked)).reshape(len(marked), -1).T
             for w in (overlap.reshape(-1), usual)]  # fmt: skip
    weights = stream(seed, "aupro").multinomial(len(marked), np.full(len(marked), 1 / len(marked)), size=draws).T
    found = _area_under_overlap(added[0] @ weights, added[1] @ weights, regions @ weights, max_fpr)
    return Estimate(value, percentile_interval(found))


def checked_scores(unusual: Any, scores: Any, names: tuple[str, str] = ("unusual", "scores")) -> tuple[Any, Any]:
    """Booleans and float64 scores of one length with both kinds of rows and no NaN; raises ``ValueError`` otherwise."""
    marks, values = _array(unusual), _array(scores).astype(np.float64)
    if marks.ndim != 1 or marks.shape != values.shape:
        raise ValueError(f"{names[1]}: expected one number for each of {names[0]}, shape (n,), found {values.shape} "
                         f"for {marks.shape}.")  # fmt: skip
    if not np.isin(marks, (0, 1)).all():
        raise ValueError(f"{names[0]}: expected booleans or zeros and ones, found {marks[~np.isin(marks, (0, 1))][0]}.")
    if np.isnan(values).any():
        raise ValueError(f"{names[1]}: expected numbers, found a NaN in row {int(np.isnan(values).argmax())}.")
    marks = marks.astype(bool)
    if marks.all() or not marks.any():
        raise ValueError(
            f"{names[0]}: expected unusual and usual rows, found {int(marks.sum())} of {len(marks)} unusual."
        )
    return marks, values


Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the numbers of unusual and usual rows at or above each threshold, ``(thresholds, draws)``, to ``(draws,)``."""


def _estimate(unusual: Any, scores: Any, curve: Curve, draws: int, seed: int) -> Estimate:
    marks, values = checked_scores(unusual, scores)
    levels, places = np.unique(-values, return_inverse=True)  # the largest score first
    counts = [np.bincount(places[kind], minlength=len(levels)) for kind in (marks, ~marks)]
    caught, alarms = (count.cumsum()[:, None] for count in counts)
    value = float(curve(caught, alarms)[0])
    rng, found = stream(seed, "scores"), []
    chunk = max(1, CELLS // len(levels))
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = [rng.multinomial(count.sum(), count / count.sum(), size=size).T.cumsum(0) for count in counts]
        found.append(curve(*drawn))
    return Estimate(value, percentile_interval(np.concatenate(found) if found else np.zeros(0)))


def _area_under_roc(caught: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    new = np.diff(alarms, axis=0, prepend=0)
    middle = caught - 0.5 * np.diff(caught, axis=0, prepend=0)  # half of the ties
    return (new * middle).sum(0) / (caught[-1] * alarms[-1].astype(np.float64))


def _average_precision(caught: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    new = np.diff(caught, axis=0, prepend=0)
    # Thresholds above the first row of a resample catch nothing and add nothing.
    return (new * caught / np.maximum(caught + alarms, 1)).sum(0) / caught[-1]


def _shares_of_regions(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of its region that each pixel is, ``(n, h, w)``, and the number of regions of each image, ``(n,)``."""
    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # within an image, corners included; never across images
    labelled: Any = ndimage.label(marked, structure=touching)
    names, total = labelled
    sizes = np.bincount(names.reshape(-1), minlength=total + 1).astype(np.float64)
    sizes[0] = math.inf
    first = ndimage.find_objects(names)
    return 1 / sizes[names], np.bincount([place[0].start for place in first], minlength=len(marked))


def _area_under_overlap(covered: np.ndarray, alarms: np.ndarray, regions: np.ndarray, max_fpr: float) -> np.ndarray:
    """Area under the curves of what each threshold adds, ``(thresholds, draws)``; NaN where a draw has no curve."""
    regions = np.where(regions > 0, regions, math.nan)
    total = alarms.sum(0)
    overlap = covered.cumsum(0) / regions
    rate = alarms.cumsum(0) / np.where(total > 0, total, math.nan)
    overlap, rate = (np.concatenate([np.zeros((1, len(regions))), line]) for line in (overlap, rate))
    left, right = np.minimum(rate[:-1], max_fpr), np.minimum(rate[1:], max_fpr)
    width = rate[1:] - rate[:-1]
    # Of the step that crosses the limit, the part before it; its end is interpolated.
    inside = np.divide(right - rate[:-1], width, out=np.zeros_like(width), where=width > 0).clip(0)
    end = overlap[:-1] + inside * (overlap[1:] - overlap[:-1])
    return (0.5 * (right - left) * (overlap[:-1] + end)).sum(0) / max_fpr + 0 * total / regions


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
