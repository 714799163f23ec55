"""From which noise level down does a finite data set, or a denoiser that learned it by heart, give its points back?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import (
    at_level,
    check_count,
    check_gaussian,
    check_levels,
    check_rows,
    in_state_precision,
)
from clarkia.processes import Gaussian
from clarkia.random import Noise, rand, randn

CHUNK = 512
COPY = 1 / 3  # a point is taken for a copy of its nearest row where the second nearest is three times as far


@dataclass(frozen=True, eq=False)
class Collapse:
    """What `collapse_level` found, at m noise levels.

    Attributes:
        noise_levels: Ratios sigma / alpha, decreasing, float64 ``(m,)``.
        own_share: Median share of the data's posterior that a noised row puts on itself, float64 ``(m,)``.
        effective_rows: Geometric mean of the number of rows ``1 / sum_i w_i^2`` that its posterior weighs, ``(m,)``.
        copied: Share of predictions that are copies of a row: nearer to it than a third of the distance to the second
            nearest; of the denoiser where one was given, else of the exact posterior mean, ``(m,)``.
        collapse: Level at which the median own share crosses one half, interpolated in logarithms; NaN where it does
            not between the levels.
        gaussian_collapse: The level for a normal law of the data's covariance: where the information that a noised row
            has about itself is ``log n``.
        speciation: Level at which the largest spread of the data drowns in the noise: root of the largest eigenvalue
            of their covariance.
    """

    noise_levels: Float64[Tensor, " m"]
    own_share: Float64[Tensor, " m"]
    effective_rows: Float64[Tensor, " m"]
    copied: Float64[Tensor, " m"]
    collapse: float
    gaussian_collapse: float
    speciation: float


@torch.no_grad()
def collapse_level(
    data: Float[Tensor, "n d"],
    denoiser: Denoiser | None = None,
    process: Gaussian | None = None,
    *,
    noise_levels: Any = None,
    num_samples: int = 500,
    generator: Noise = None,
) -> Collapse:
    """Find the noise level below which the best answer for a data set is one of its rows.

    The exact denoiser of n rows answers ``sum_i w_i x_i`` with ``w_i`` proportional to ``exp(-|y - x_i|^2 / 2 k^2)``
    at ``y = x_t / alpha`` and ``k = sigma / alpha``. Rows are noised to each level: above the collapse many rows share
    the weights, below it nearly all lies on the one that was noised, and sampling returns it. A denoiser that
    generalises does not copy there. Above the speciation level, samples have not yet chosen between the largest groups.

    Args:
        data: Training rows, ``(n, d)``, at least 3 distinct ones; repeated rows count once.
        denoiser: A denoiser ``denoiser(x_t, t) -> x0_hat`` to look for copies in; None for the exact one of the rows.
        process: Its Gaussian process; needed with a denoiser.
        noise_levels: Ratios sigma / alpha; forty from 3 to 0.003 times the root mean variance where None.
        num_samples: Number of noised rows at each level.
        generator: Source of rows and noise.

    Returns:
        The profile over noise levels, and the two levels.

    Raises:
        ValueError: Data that are not finite rows or fewer than 3 distinct ones, a denoiser without a Gaussian process,
            levels out of its reach.

    Source: Dynamical Regimes of Diffusion Models (2024), where both levels are derived for normal data and mixtures;
    Kernel Density Estimators in Large Dimensions (2024).
    """
    given = check_rows(data, "data", least=3)
    rows = given.unique(dim=0)
    if len(rows) < 3:
        raise ValueError(f"data: expected at least 3 distinct rows, found {len(rows)}.")
    if denoiser is not None:
        check_gaussian(process)
        denoiser = in_state_precision(denoiser)
    variances = torch.linalg.eigvalsh(rows.T.cov().reshape(rows.shape[1], -1)).clamp(min=0)
    if noise_levels is None:
        spread = float(variances.mean().sqrt())
        noise_levels = spread * torch.logspace(math.log10(3), math.log10(0.003), 40, dtype=torch.float64)
    levels = check_levels(noise_levels, process if denoiser is not None else None).to(rows.device)
    count = check_count(num_samples, "num_samples")
    own = (rand((count,), generator) * len(rows)).long().to(rows.device)
    noise = randn((count, rows.shape[1]), generator, dtype=torch.float64, device=rows.device)

    profile = []
    for level in levels:
        y = rows[own] + level * noise
        share, effective, mean = _posterior(rows, y, own, level)
        if denoiser is not None and process is not None:
            points = y.to(data.dtype)
            t, alpha = at_level(process, level, points)
            mean = denoiser(alpha * points, t).double()
        near = torch.cat([torch.cdist(part, rows).topk(2, largest=False).values for part in mean.split(CHUNK)])
        copied = (near[:, 0] < COPY * near[:, 1]).double().mean()
        profile.append(torch.stack([share.median(), effective.log().mean().exp(), copied]))
    own_share, effective_rows, copied = torch.stack(profile, 1)
    return Collapse(
        noise_levels=levels,
        own_share=own_share,
        effective_rows=effective_rows,
        copied=copied,
        collapse=_crossing(levels, own_share),
        gaussian_collapse=gaussian_collapse(variances, len(rows)),
        speciation=float(variances[-1].sqrt()),
    )


def gaussian_collapse(variances: Float[Tensor, " d"], num_rows: int) -> float:
    """The level ``k`` at which ``sum_j log(1 + v_j / k^2) / 2 = log n``: where n normal rows run out of information.

    For equal variances v it is ``sqrt(v / (n^(2 / d) - 1))``.

    Args:
        variances: Variances of the data along their principal directions, ``(d,)``, not all 0.
        num_rows: Number n of rows, at least 2.

    Raises:
        ValueError: No positive variance, or fewer than 2 rows.

    Source: Dynamical Regimes of Diffusion Models (2024).
    """
    variances = torch.as_tensor(variances, dtype=torch.float64)
    if not bool((variances > 0).any()) or bool((variances < 0).any()):
        raise ValueError(f"variances: expected non-negative numbers, not all 0, found {variances.tolist()}.")
    wanted = math.log(check_count(num_rows, "num_rows", least=2))
    low, high = 1e-12, 1e12  # in units of the largest spread
    scale = float(variances.max().sqrt())
    for _ in range(200):  # bisection in the logarithm
        level = math.sqrt(low * high)
        information = 0.5 * float(torch.log1p(variances / (scale * level) ** 2).sum())
        low, high = (level, high) if information > wanted else (low, level)
    return scale * math.sqrt(low * high)


def _posterior(rows: Tensor, y: Tensor, own: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Share on the own row, effective number of rows, and the posterior mean, at each query."""
    found = []
    for queries, index in zip(y.split(CHUNK), own.split(CHUNK), strict=True):
        weights = torch.softmax(-0.5 * (torch.cdist(queries, rows) / level) ** 2, 1)
        share = weights.gather(1, index.unsqueeze(1)).squeeze(1)
        found.append((share, 1 / weights.square().sum(1), weights @ rows))
    shares, effective, means = zip(*found, strict=True)
    return torch.cat(shares), torch.cat(effective), torch.cat(means)


def _crossing(levels: Tensor, share: Tensor) -> float:
    """The level at which the share first passes one half, by linear interpolation of its log-odds in log level."""
    above = (share >= 0.5).nonzero().flatten()
    if not len(above) or int(above[0]) == 0:
        return math.nan
    index = int(above[0])
    odds = torch.logit(share[index - 1 : index + 1].clamp(1e-300, 1 - 1e-16))
    weight = odds[0] / (odds[0] - odds[1])
    return float(torch.exp((1 - weight) * levels[index - 1].log() + weight * levels[index].log()))
