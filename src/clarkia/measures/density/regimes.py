"""From which bandwidth down a kernel density of given rows rests on a handful of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.linear import covariance
from clarkia._math.neighbours import k_nearest
from clarkia.measures.density.bandwidths import some_rows
from clarkia.measures.density.neighbourhoods import Neighbourhood, neighbourhoods, row_numbers
from clarkia.measures.density.profiles import profile
from clarkia.measures.density.theory import KernelRegimes, kernel_regimes
from clarkia.measures.fields.collapse import gaussian_collapse
from clarkia.measures.inputs import features, pair
from clarkia.processes import Gaussian
from clarkia.random import Noise

HANDFUL = 5.0
"""Effective rows below which a density counts as that of a handful."""

TAIL = 10
"""Nearest rows from which the tail of the kernel's values is estimated."""


@dataclass(frozen=True, eq=False)
class DensityRegimes:
    """What `density_regimes` found, at h bandwidths of a Gaussian kernel; each bandwidth is also a noise level.

    Attributes:
        bandwidths: Increasing, float64 ``(h,)``.
        log_prob: Mean log-density of fresh points, ``(h,)``.
        effective: Geometric mean of the effective number of rows at fresh points, ``(h,)``.
        perplexity: Median of the rows' perplexity there, ``(h,)``.
        top: Mean share of the heaviest row, ``(h,)``.
        condensation: ``h_G``: where the effective number crosses five; NaN where it does not between the bandwidths.
        tail: The bandwidth at which the kernel's values have a tail of index 1, by Hill's estimate from the nearest
            rows: another estimate of ``h_G``. The index at h is ``(h / tail)^2``.
        normal: ``h_CLT = sqrt(2) tail``: where that index crosses 2, above which densities fluctuate normally.
        optimal: The bandwidth of the largest mean log-density.
        nearest: Root mean square distance of a fresh point to the nearest row, a dimension: the optimum of the theory.
        collapse: The level below which noised *rows* are given back, were the data normal; see `gaussian_collapse`.
        theory: The regimes of normal data with this covariance and number of rows.
    """

    bandwidths: Float64[Tensor, " h"]
    log_prob: Float64[Tensor, " h"]
    effective: Float64[Tensor, " h"]
    perplexity: Float64[Tensor, " h"]
    top: Float64[Tensor, " h"]
    condensation: float
    tail: float
    normal: float
    optimal: float
    nearest: float
    collapse: float
    theory: KernelRegimes

    def times(self, process: Gaussian) -> dict[str, float]:
        """The levels as times of a process, by its noise-to-signal ratio; above 1 where it never gets there.

        A network that fits its training rows perfectly can only copy below ``collapse``; below ``condensation`` it
        answers a fresh point with the mean of a handful of rows.
        """
        levels = {"condensation": self.condensation, "normal": self.normal, "collapse": self.collapse}
        kappa = torch.tensor(list(levels.values()), dtype=torch.float64)
        times = process.t_of_kappa(kappa)
        times = times.flatten(1).mean(1) if times.ndim > 1 else times
        return dict(zip(levels, times.tolist(), strict=True))


@torch.no_grad()
def density_regimes(
    data: Any,
    held_out: Any = None,
    *,
    bandwidths: Any = None,
    max_queries: int = 1000,
    num_top: int | None = None,
    generator: Noise = None,
) -> DensityRegimes:
    """Measure how many rows a kernel density rests on at fresh points, and which bandwidth is best.

    Scale or whiten columns of different units first: one bandwidth serves all.

    Args:
        data: Rows of the density, ``(n, d)``, at least 3 different ones.
        held_out: Fresh rows of the same law, ``(m, d)``; None for the rows themselves, each left out in turn.
        bandwidths: Positive numbers; by default forty from a third of the distance of neighbours to three times the
            root mean variance.
        max_queries: Fresh points that are looked at, at most.
        num_top: Nearest rows from which the tail is estimated; by default 10: the law of many dimensions is one of
            the very nearest, and every further row moves the estimate up.
        generator: Chooses those points.

    Returns:
        The profile over bandwidths, and the levels.

    Raises:
        ValueError: Rows that are no finite matrices of one width or too few, or bandwidths that are not positive.

    Source: Kernel Density Estimators in Large Dimensions (2024).
    """
    rows = features(data, "data")
    distinct = len(rows.unique(dim=0))
    if distinct < 3:
        raise ValueError(f"data: expected at least 3 different rows, found {distinct}.")
    if max_queries < 1:
        raise ValueError(f"max_queries: expected at least 1, found {max_queries}.")
    queries, numbers = rows, row_numbers(rows)
    own: Tensor | None = numbers
    if held_out is not None:
        (rows, queries), own = pair(data, held_out, ("data", "held_out")), None
    chosen = some_rows(queries, max_queries, generator)
    queries, own = queries[chosen], None if own is None else own[chosen]

    variances = torch.linalg.eigvalsh(covariance(rows)).clamp(min=0)
    nearest, tail = _nearest_rows(queries, rows, num_top, left_out=own is not None)
    grid = _grid(bandwidths, nearest, float(variances.mean().sqrt())).to(rows.device)
    found = neighbourhoods(queries, rows, grid, profile("gaussian"), numbers=None if own is None else (own, numbers))
    return DensityRegimes(
        bandwidths=grid,
        log_prob=found.log_prob.mean(1),
        effective=found.effective.log().mean(1).exp(),
        perplexity=found.perplexity.median(1).values,
        top=found.top.mean(1),
        condensation=_crossing(grid, found),
        tail=tail,
        normal=math.sqrt(2) * tail,
        optimal=float(grid[found.log_prob.mean(1).argmax()]),
        nearest=nearest,
        collapse=gaussian_collapse(variances, distinct),
        theory=kernel_regimes(math.log(distinct) / rows.shape[1], variances),
    )


def _grid(bandwidths: Any, nearest: float, spread: float) -> Float64[Tensor, " h"]:
    if bandwidths is None:
        low = max(nearest, 1e-9 * spread) / 3  # held-out rows may all be copies
        return torch.linspace(math.log(low), math.log(3 * spread), 40, dtype=torch.float64).exp()
    grid = torch.as_tensor(bandwidths, dtype=torch.float64)
    if grid.ndim != 1 or len(grid) < 2 or not bool((grid > 0).all() & grid.isfinite().all()):
        raise ValueError(f"bandwidths: expected at least 2 positive numbers in one row, found {grid.tolist()}.")
    return grid.unique()


def _nearest_rows(queries: Tensor, rows: Tensor, num_top: int | None, *, left_out: bool) -> tuple[float, float]:
    """The neighbour distance a dimension, and the bandwidth of index 1.

    Hill's reciprocal index of the values ``exp(-r_i^2 / 2 h^2)`` is the mean of ``(r_k^2 - r_i^2) / 2 h^2`` over the k
    nearest rows, so it is exactly proportional to ``1 / h^2``.
    """
    rows = rows.unique(dim=0)
    skipped = int(left_out)  # the nearest distinct row is then the query itself
    k = min(TAIL, len(rows) - skipped - 1) if num_top is None else num_top
    if not 1 <= k < len(rows) - skipped:
        raise ValueError(f"num_top: expected 1 to {len(rows) - skipped - 1}, found {num_top}.")
    squared = k_nearest(queries, rows, k + 1 + skipped)[0][:, skipped:].square()
    tail = math.sqrt(0.5 * float((squared[:, k:] - squared[:, :k]).mean()))
    return math.sqrt(float(squared[:, 0].mean()) / rows.shape[1]), tail


def _crossing(grid: Tensor, found: Neighbourhood) -> float:
    """Where the mean logarithm of the effective number last crosses a handful, linear between logarithms."""
    excess = found.effective.log().mean(1) - math.log(HANDFUL)
    below = (excess < 0).nonzero().flatten()
    if not len(below) or int(below[-1]) == len(grid) - 1:
        return math.nan
    i = int(below[-1])
    share = float(excess[i] / (excess[i] - excess[i + 1]))
    return float(torch.exp((1 - share) * grid[i].log() + share * grid[i + 1].log()))
