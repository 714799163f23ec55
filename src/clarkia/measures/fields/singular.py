"""Do the data lie on a lower-dimensional set, and how much noise should a model then be fitted with?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.energy import energy_distance
from clarkia.measures.fields.checks import check_count, check_rows

GRID = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Noise levels worth trying, in standard deviations of the data."""

CHUNK = 1024


@dataclass(frozen=True, eq=False)
class SingularityReport:
    """What `singularity_report` found in n rows of d columns.

    Attributes:
        tied: Share of each column's values that some other row has too, float64 ``(d,)``.
        repeated_rows: Share of rows that are copies of another.
        rank: Dimension of the smallest plane that holds the rows.
        rank_deficiency: ``d - rank``.
        local_dimension: Slope of the logarithm of k against that of the distance to the k-th neighbour; 0 where fewer
            than three distinct rows are left.
        full_dimension: The same after shuffling each column on its own: what the estimate, which falls short in many
            dimensions, makes of columns that know nothing of each other.
        starting_noise: Noise to start the search from, in standard deviations of a column, one of `GRID`; 0 where
            nothing is singular.
    """

    tied: Float64[Tensor, " d"]
    repeated_rows: float
    rank: int
    rank_deficiency: int
    local_dimension: float
    full_dimension: float
    starting_noise: float


@torch.no_grad()
def singularity_report(
    x: Float[Tensor, "n d"],
    *,
    neighbours: tuple[int, int] = (4, 16),
    smoothness: float = 2.0,
    generator: torch.Generator | None = None,
) -> SingularityReport:
    """Look for what makes a density unbounded: ties, columns that determine each other, curved sheets.

    On a set of dimension q in d > q dimensions the best noise for n rows falls like ``n^(-b / (2 (b + q)))`` with the
    smoothness b of the set; theory gives no constant, so this is where to start a search, not where to end it.

    Args:
        x: Rows of continuous columns, ``(n, d)``, at least 3; every column is standardised, a constant one left out.
        neighbours: Smallest and largest k of the slope; held below the number of distinct rows.
        smoothness: Smoothness b of the set.
        generator: Source of the shuffling.

    Returns:
        The report.

    Raises:
        ValueError: Rows that are not finite numbers, neighbours out of order, a smoothness that is not positive.

    Source: A likelihood approach to nonparametric estimation of a singular distribution using deep generative models
    (2021).
    """
    x = check_rows(x, "x", least=3)
    low, high = (check_count(k, "neighbours") for k in neighbours)
    if low >= high:
        raise ValueError(f"neighbours: expected a smaller and a larger number, found {neighbours}.")
    if not smoothness > 0:
        raise ValueError(f"smoothness: expected a positive number, found {smoothness}.")
    n, d = x.shape
    ordered = x.sort(0).values
    equal = torch.zeros(n + 1, d, dtype=torch.bool, device=x.device)
    equal[1:-1] = ordered[1:] == ordered[:-1]
    tied = (equal[1:] | equal[:-1]).double().mean(0)
    distinct, copies = x.unique(dim=0, return_counts=True)

    std = x.std(0)
    varied = std > 1e-12 * x.abs().amax(0)  # below: rounding of a constant
    scaled = ((distinct - x.mean(0)) / std)[:, varied]
    # The threshold that numerical libraries use for the rank of a matrix in floating point.
    values = torch.linalg.svdvals(scaled) if bool(varied.any()) else x.new_zeros(1)
    rank = int((values > values[0] * max(n, d) * torch.finfo(torch.float64).eps).sum())
    dimension = _slope(scaled, low, high)
    order = torch.rand(scaled.shape, generator=generator, dtype=torch.float64).argsort(0).to(x.device)
    full = _slope(scaled.gather(0, order), low, high)

    # Three tenths short, or a tenth of a column tied: more than smooth dependence and chance make of a density.
    singular = rank < d or dimension < 0.7 * full or bool((tied > 0.1).any())
    rate = n ** (-smoothness / (2 * (smoothness + dimension)))
    start = max(level for level in GRID if level <= max(rate, GRID[1])) if singular else 0.0
    repeated = float(copies[copies > 1].sum()) / n
    return SingularityReport(tied, repeated, rank, d - rank, dimension, full, start)


@dataclass(frozen=True, eq=False)
class InstanceNoise:
    """What `choose_instance_noise` found.

    Attributes:
        noise: The chosen level, in the data's units.
        levels: All levels tried.
        distances: Energy distance of the samples at each to the held-out rows, float64 ``(levels,)``.
    """

    noise: float
    levels: tuple[float, ...]
    distances: Float64[Tensor, " levels"]


def choose_instance_noise(
    sample: Callable[[float], Tensor], holdout: Float[Tensor, "m d"], *, levels: Sequence[float] | None = None
) -> InstanceNoise:
    """Choose the noise to fit singular data with, by the distance of noise-free samples to held-out rows.

    Likelihoods at different levels cannot be compared, so the energy distance decides.

    Args:
        sample: ``sample(noise) -> (n, d)``: fits a model on data with fresh noise of this standard deviation and draws
            from it with the noise removed.
        holdout: Clean rows that no fit has seen, ``(m, d)``.
        levels: Levels to try, in the data's units; `GRID` times the root mean variance of ``holdout`` where None.

    Returns:
        The best level and the distances of all.

    Raises:
        ValueError: Rows that are not finite numbers, no level or a negative one, samples of another width.

    Source: A likelihood approach to nonparametric estimation of a singular distribution using deep generative models
    (2021).
    """
    holdout = check_rows(holdout, "holdout", least=2)
    if levels is None:
        spread = float(holdout.var(0).mean().sqrt())
        levels = [spread * level for level in GRID]
    levels = tuple(float(level) for level in levels)
    if not levels or not all(0 <= level < float("inf") for level in levels):
        raise ValueError(f"levels: expected non-negative numbers, found {levels}.")
    distances = []
    for level in levels:
        drawn = check_rows(sample(level), "sample", least=2)
        if drawn.shape[1] != holdout.shape[1]:
            raise ValueError(f"sample: expected {holdout.shape[1]} columns, found {drawn.shape[1]}.")
        distances.append(energy_distance(drawn, holdout))
    found = torch.stack(distances)
    return InstanceNoise(levels[int(found.argmin())], levels, found)


def ppca_noise(x: Float[Tensor, "n d"], dim: int) -> float:
    """The noise variance that maximum likelihood finds for a plane of ``dim`` dimensions in normal noise.

    The mean of the smallest ``d - dim`` eigenvalues of the covariance (with divisor n). At 0 the likelihood is
    unbounded: the rows lie on such a plane, and a density cannot be fitted without noise.

    Args:
        x: Rows, ``(n, d)``, at least 2.
        dim: Dimension of the plane, below d.

    Raises:
        ValueError: Rows that are not finite numbers, a dimension of d or more.

    Source: Probabilistic Principal Component Analysis (1999).
    """
    x = check_rows(x, "x", least=2)
    check_count(dim, "dim", least=0, most=x.shape[1] - 1)
    centred = x - x.mean(0)
    values = torch.zeros(x.shape[1], dtype=torch.float64)
    found = torch.linalg.svdvals(centred).square().cpu() / len(x)
    values[: len(found)] = found
    return float(values[dim:].mean())


def _slope(x: Tensor, low: int, high: int) -> float:
    """Local dimension: ``log k`` regressed on the mean logarithm of the distance to the k-th neighbour."""
    high = min(high, len(x) - 1)
    low = min(low, high - 1)
    if low < 1 or not x.shape[1]:
        return 0.0
    exact = "donot_use_mm_for_euclid_dist"
    near = torch.cat(
        [torch.cdist(rows, x, compute_mode=exact).topk(high + 1, largest=False).values for rows in x.split(CHUNK)]
    )
    k = torch.arange(low, high + 1, dtype=torch.float64, device=x.device)
    distance = near[:, low:].log().mean(0)  # column 0 is the row itself
    # In dimension q the expected log distance is that of k points in a ball: digamma(k) / q, exactly for uniform data.
    growth = torch.digamma(k)
    centred = distance - distance.mean()
    return float((growth - growth.mean()) @ centred / (centred @ centred))
