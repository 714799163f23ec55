"""A measure within groups: per class, or conditional on a label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.inputs import pair


def by_group(
    measure: Callable[[Tensor, Tensor], Tensor | float],
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    groups_x: Tensor | np.ndarray,
    groups_y: Tensor | np.ndarray,
) -> tuple[Float64[Tensor, ""], dict[object, float]]:
    """A two-sample measure within each group, and its mean with the groups' shares of ``x`` as weights.

    Args:
        measure: ``(x, y) -> number``.
        x: Real features ``(n, d)``.
        y: Generated features ``(m, d)``.
        groups_x: Group of every row of x, ``(n,)``.
        groups_y: Group of every row of y, ``(m,)``.

    Returns:
        The weighted mean, a float64 number, and the value of every group.

    Raises:
        ValueError: Labels that do not fit, or a group of one set without a row in the other.
    """
    x, y = pair(x, y)
    labels = [np.asarray(g.cpu() if isinstance(g, Tensor) else g) for g in (groups_x, groups_y)]
    for label, rows, name in zip(labels, (x, y), ("groups_x", "groups_y"), strict=True):
        if label.shape != (len(rows),):
            raise ValueError(f"{name}: expected ({len(rows)},) labels, found {label.shape}.")
    here, there = (set(label.tolist()) for label in labels)
    if here != there:
        alone = sorted(here ^ there, key=str)[0]
        raise ValueError(f"groups_y: expected the groups of groups_x, found {alone!r} in one of them only.")
    values, shares = {}, []
    total = x.new_zeros(())
    for group in sorted(here, key=str):
        rows, others = (torch.from_numpy(label == group).to(x.device) for label in labels)
        value = measure(x[rows], y[others])
        shares.append(float(rows.double().mean()))
        values[group] = float(value)
        total = total + shares[-1] * value
    return total, values
