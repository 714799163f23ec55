"""Uniform sub-samples: of rows, and of a stream of features whose length is not known."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.random import Noise, rand


def subsample(z: Tensor, size: int, generator: Noise) -> Tensor:
    """At most ``size`` rows, chosen at random, in their order."""
    return z if len(z) <= size else z[draw_rows(len(z), size, generator).to(z.device)]


def draw_rows(n: int, size: int, generator: Noise) -> Tensor:
    """Indices of ``size`` of n rows without replacement, ascending."""
    return rand((n,), generator).argsort()[:size].sort().values


def reservoir(batches: Iterable[Tensor], size: int, *, generator: Noise = None) -> Tensor:
    """Keep ``size`` rows of a stream, every subset as likely as any other, in their order of arrival.

    Every row draws a number and the smallest numbers stay, so at most one batch and the kept rows are held.

    Args:
        batches: Batches ``(b, ...)`` of rows of one shape.
        size: Number of rows to keep; all of a shorter stream are kept.
        generator: Source of randomness.

    Returns:
        ``(min(size, total), ...)``.

    Raises:
        ValueError: No batch, or rows of different shapes.
    """
    check_count(size, "size")
    kept: Tensor | None = None
    keys = torch.zeros(0, dtype=torch.float64)
    for batch in batches:
        if kept is not None and batch.shape[1:] != kept.shape[1:]:
            expected, found = tuple(kept.shape[1:]), tuple(batch.shape[1:])
            raise ValueError(f"batches: expected rows of shape {expected}, found {found}.")
        keys = torch.cat([keys, rand((len(batch),), generator).cpu()])
        kept = batch if kept is None else torch.cat([kept, batch])
        if len(keys) > size:
            index = keys.topk(size, largest=False).indices.sort().values
            keys, kept = keys[index], kept[index.to(kept.device)]
    if kept is None:
        raise ValueError("batches: expected at least one batch, found none.")
    return kept
