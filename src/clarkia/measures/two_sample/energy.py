"""Energy distance between two samples, and the scores of one sample against what happened."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math import energy
from clarkia._math.pairwise import CHUNK, safe_power
from clarkia.measures.inputs import at_least, features, lazy_pair

DRAWS = 2**22  # distances held at once by the energy score


def energy_distance(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    exponent: float = 1.0,
    unbiased: bool = False,
    chunk: int = CHUNK,
) -> Float64[Tensor, ""]:
    """``2 E|X - Y|^p - E|X - X'|^p - E|Y - Y'|^p``, zero for 0 < p < 2 exactly where the laws agree.

    Lower is better. It is the squared discrepancy of the kernel ``-r^p``, and for p = 1 the distance of characteristic
    functions with weight proportional to ``|t|^-(d+1)``: no bandwidth to choose. For samples of one law the plain value
    is about ``(1/n + 1/m) E|X - X'|^p``, the unbiased one 0. Differentiable.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        exponent: p in (0, 2); at 2 it is ``2 |mean x - mean y|^2``, blind to all but the means.
        unbiased: Leave the pairs of a row with itself out; may be negative; needs 2 rows in each set.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number, in units of the features to the power p.

    Raises:
        ValueError: Different widths, values that are not finite, too few rows, an exponent outside (0, 2].

    Source: Energy statistics: A class of statistics based on distances (2013).
    """
    x, y = lazy_pair(x, y)
    _check_exponent(exponent)
    if unbiased:
        for rows, name in ((x, "x"), (y, "y")):
            at_least(rows, 2, name, "for pairs of different rows")
    return energy.energy_distance(x, y, exponent=exponent, unbiased=unbiased, chunk=chunk)


def energy_score(
    samples: Float64[Tensor, "n s d"], y: Float64[Tensor, "n d"], *, exponent: float = 1.0
) -> Float64[Tensor, " n"]:
    """Score of conditional samples against the one observation each: ``E|X - y|^p - E|X - X'|^p / 2``.

    Lower is better; strictly proper for 0 < p < 2: in expectation least for samples of the true conditional law. The
    second term is the unbiased ``sum_ij |x_i - x_j|^p / (s (s - 1))``, so the score does not depend on s in
    expectation, and may be negative. Differentiable.

    Args:
        samples: ``(n, s, d)``, s >= 2 samples for each of n observations.
        y: What happened, ``(n, d)``.
        exponent: p in (0, 2).

    Returns:
        One score an observation, float64 ``(n,)``.

    Raises:
        ValueError: Shapes that do not fit, one sample, values that are not finite, an exponent outside (0, 2].

    Source: Strictly Proper Scoring Rules, Prediction, and Estimation (2007).
    """
    if samples.ndim != 3 or y.shape != (samples.shape[0], samples.shape[2]):
        raise ValueError(
            f"samples: expected (n, s, d) for y (n, d), found {tuple(samples.shape)} and {tuple(y.shape)}."
        )
    n, s, d = samples.shape
    if s < 2:
        raise ValueError(f"samples: expected at least 2 samples an observation, found {s}.")
    _check_exponent(exponent)
    y = features(y, "y")
    samples = features(samples.reshape(n * s, d), "samples").reshape(n, s, d)
    scores = []
    for block, observed in zip(*(z.split(max(1, DRAWS // s**2)) for z in (samples, y)), strict=True):
        near = safe_power((block - observed[:, None]).square().sum(2), exponent / 2).mean(1)
        within = torch.cdist(block, block, compute_mode="donot_use_mm_for_euclid_dist")
        if exponent != 1:
            within = safe_power(within, exponent)
        scores.append(near - 0.5 * within.sum((1, 2)) / (s * (s - 1)))
    return torch.cat(scores)


def crps(samples: Float64[Tensor, "n s"], y: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Continuous ranked probability score of samples of one number, ``E|X - y| - E|X - X'| / 2``, unbiased.

    The energy score on a line, in time ``s log s``. Lower is better; its unit is that of the numbers.

    Args:
        samples: ``(n, s)``, s >= 2.
        y: What happened, ``(n,)``.

    Returns:
        One score an observation, float64 ``(n,)``.

    Raises:
        ValueError: Shapes that do not fit, one sample, values that are not finite.

    Source: Strictly Proper Scoring Rules, Prediction, and Estimation (2007).
    """
    if samples.ndim != 2 or y.shape != samples.shape[:1]:
        raise ValueError(f"samples: expected (n, s) for y (n,), found {tuple(samples.shape)} and {tuple(y.shape)}.")
    s = samples.shape[1]
    if s < 2:
        raise ValueError(f"samples: expected at least 2 samples an observation, found {s}.")
    ordered, observed = features(samples, "samples").sort(1).values, features(y[:, None], "y")
    # sum_{i<j} (x_(j) - x_(i)) counts every order statistic by how many lie below it less how many above.
    weight = 2 * torch.arange(s, dtype=torch.float64, device=ordered.device) - (s - 1)
    return (ordered - observed).abs().mean(1) - (ordered @ weight) / (s * (s - 1))


def _check_exponent(exponent: float) -> None:
    if not 0 < exponent <= 2:
        raise ValueError(f"exponent: expected a number in (0, 2], found {exponent}.")
