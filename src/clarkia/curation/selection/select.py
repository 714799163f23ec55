"""Pick from a large pool the rows that are like a small sample of the task at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from clarkia.curation.checks import check_choice, check_count, check_number
from clarkia.curation.selection.layers import Layers, layers, layers_holding
from clarkia.curation.selection.result import Selection
from clarkia.curation.selection.transport import distance_to, reweighted, transport
from clarkia.curation.selection.whitened import Shrinkage, unit_rows, whitened_features
from clarkia.measures import inputs
from clarkia.random import Noise, rand

Rule = Literal["transport", "nearest", "mean", "random"]

POSITIVE = math.sqrt(2) * (1 - 1e-12)  # unit rows this near are at less than a right angle, rounding apart


def select(
    candidates: Any,
    target: Any,
    *,
    size: int | None = None,
    rule: Rule = "transport",
    features: Callable[[Any], Any] | None = None,
    whiten: bool = True,
    shrinkage: Shrinkage = None,
    blur: float = 0.1,
    folds: int = 10,
    generator: Noise = None,
) -> Selection:
    """Select the candidates that together are nearest to the target in optimal transport.

    The r-th layer holds every target's r-th nearest candidate in the whitened feature distance. ``"transport"`` with a
    size takes the layers that fit whole, and from the first that does not fit the rows of lowest transport potential:
    those whose mass lowers the cost of reaching the targets most. Without a size it grows layers around each fold of
    the targets for as long as they come nearer to the targets of the other folds, keeps the nearest set of each fold,
    and returns the union. Baselines: ``"nearest"`` cuts the last layer by distance, ``"mean"`` takes the largest mean
    similarity to the targets (and drops a minority among them), ``"random"`` any rows.

    Args:
        candidates: Features of the pool, ``(n, d)``, or what ``features`` takes; see `gradient_features`.
        target: The same for the task, ``(m, d)``.
        size: Number of candidates to take; None finds it (only with ``"transport"``).
        rule: How they are picked.
        features: Turns candidates and target into features; None where they are features.
        whiten: Whiten by the joint covariance; else features are only scaled to unit length.
        shrinkage: Of the covariance, as in `whitened_features`.
        blur: Root of the entropic regularisation, in units of the distance, which runs from 0 to 2.
        folds: Parts of the targets for the automatic size.
        generator: Chooses random rows and folds, and the part of a set of more than 2000 that a transport problem sees.

    Returns:
        The selected rows, their weights and their distance to the target.

    Raises:
        ValueError: Features that are not finite matrices of one width, a size beyond the pool, a rule without a size,
            more folds than targets, or no candidate of positive similarity to any target.

    Source: TAROT: Targeted Data Selection via Optimal Transport (2024); the potentials' sign is that of the gradient
    of the transport cost, by which the published rule and weights prefer the rows that raise it.
    """
    check_choice(rule, "rule", get_args(Rule))
    check_number(blur, "blur", low=0, open=True)
    if features is not None:
        candidates, target = features(candidates), features(target)
    x, y = inputs.pair(candidates, target, ("candidates", "target"))
    if size is None and rule != "transport":
        raise ValueError(f"size: expected a number with the rule {rule!r}, found None.")
    if size is None:
        check_count(folds, "folds", least=2, most=max(2, len(y)))
    else:
        check_count(size, "size", most=len(x))
    x, y = whitened_features(x, y, shrinkage=shrinkage) if whiten else unit_rows(x, y)
    if size is None:
        indices, curves = _automatic(x, y, blur, folds, generator)
    else:
        indices, curves = _fixed(x, y, rule, size, blur, generator), ()
    matched = transport(x[indices], y, blur, generator)
    return Selection(indices, reweighted(matched.potential), matched.distance, curves, len(indices) / len(x))


def _fixed(x: Tensor, y: Tensor, rule: str, size: int, blur: float, generator: Noise) -> Tensor:
    """Indices of ``size`` candidates, ascending."""
    if rule == "random":
        return torch.argsort(rand((len(x),), generator))[:size].sort().values
    if rule == "mean":
        return _lowest(-(x @ y.mean(0)), size).sort().values
    found = layers_holding(x, y, size)
    whole = int((found.sizes() <= size).sum())  # layers that fit
    taken = (found.first < whole).nonzero().flatten()
    if len(taken) == size:
        return taken
    new = (found.first == whole).nonzero().flatten()
    if rule == "transport":
        badness = transport(x[new], y, blur, generator).potential
    else:
        badness = _nearness(found, whole, len(x))[new]
    return torch.cat([taken, new[_lowest(badness, size - len(taken))]]).sort().values


def _lowest(values: Tensor, count: int) -> Tensor:
    return torch.argsort(values, stable=True)[:count]


def _nearness(found: Layers, layer: int, candidates: int) -> Tensor:
    """Distance of each candidate to the nearest of the targets that have it in a layer; infinite for none."""
    distance = torch.full((candidates,), torch.inf, dtype=torch.float64)
    return distance.scatter_reduce(0, found.index[:, layer], found.distance[:, layer], "amin")


def _automatic(x: Tensor, y: Tensor, blur: float, folds: int, generator: Noise) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Union over folds of the sets nearest to the other folds, and each fold's course of distances."""
    order = torch.argsort(rand((len(y),), generator))
    chosen, curves = torch.zeros(len(x), dtype=torch.bool), []
    for held in order.tensor_split(folds):
        others = torch.ones(len(y), dtype=torch.bool)
        others[held] = False
        kept, curve = _grow(x, y[held], y[others], blur, generator)
        chosen |= kept
        curves.append(torch.tensor(curve, dtype=torch.float64))
    if not bool(chosen.any()):
        raise ValueError("candidates: expected one of positive similarity to a target, found none.")
    return chosen.nonzero().flatten(), tuple(curves)


def _grow(x: Tensor, near: Tensor, others: Tensor, blur: float, generator: Noise) -> tuple[Tensor, list[float]]:
    """Add layers around some targets while they come nearer to the others; the best set as a mask, and the course."""
    found = layers(x, near, 16)
    kept, best, curve = torch.zeros(len(x), dtype=torch.bool), math.inf, []
    for depth in range(1, len(x) + 1):
        if depth > found.depth:
            found = layers(x, near, 2 * found.depth)
        similar = found.index[:, :depth][found.distance[:, :depth] < POSITIVE]
        if not len(similar):
            break
        mask = torch.zeros_like(kept)
        mask[similar] = True
        curve.append(distance_to(x[mask], others, blur, generator))
        if curve[-1] >= best:
            break
        kept, best = mask, curve[-1]
    return kept, curve
