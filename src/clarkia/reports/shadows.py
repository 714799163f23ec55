"""Two sets of feature vectors as a person can see them: along the principal axes of the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarkia.reports.profiles import Histogram, shares, short_number

BINS = 30
AXES = 3


@dataclass(frozen=True, eq=False)
class Shadow:
    """The sets along one axis.

    Attributes:
        name: Of the axis.
        histogram: Shares of the rows in its bins.
    """

    name: str
    histogram: Histogram


def shadows(real: Tensor, generated: Tensor) -> tuple[Shadow, ...]:
    """Histograms along the first principal axes of the real rows, at most three.

    Args:
        real: Features ``(n, d)``.
        generated: Features ``(m, d)``.
    """
    mean = real.mean(0)
    _, sizes, axes = torch.linalg.svd(real - mean, full_matrices=False)
    share = sizes**2 / (sizes**2).sum().clamp(min=1e-300)
    found = []
    for index in range(min(AXES, len(sizes))):
        x, y = ((rows - mean) @ axes[index] for rows in (real, generated))
        found.append(Shadow(f"Axis {index + 1}, {float(share[index]):.0%} of the real variance", _histogram(x, y)))
    return tuple(found)


def _histogram(x: Tensor, y: Tensor) -> Histogram:
    low, high = np.quantile(x.numpy(), [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    return Histogram(
        tuple(map(float, edges)), shares(x.numpy(), edges), shares(y.numpy(), edges), tuple(map(short_number, edges))
    )
