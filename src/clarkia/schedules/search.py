"""The times of a sampler's steps by trial: black-box search with a Gaussian process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from clarkia.schedules.grids import uniform

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TimeSearch:
    """What a search found.

    Attributes:
        times: float64 ``(num_steps + 1,)``, the best grid, decreasing from 1 to 0.
        value: Its objective.
        grids: All grids tried, ``(trials, num_steps + 1)``; the first is the uniform one.
        values: Their objectives, ``(trials,)``.
    """

    times: Float[Tensor, " nodes"]
    value: float
    grids: Float[Tensor, "trials nodes"]
    values: Float[Tensor, " trials"]


def search_times(
    objective: Callable[[Float[Tensor, " nodes"]], float],
    num_steps: int,
    *,
    num_random: int = 20,
    num_guided: int = 40,
    seed: int = 0,
) -> TimeSearch:
    """Choose the inner times of a grid so that an objective is small.

    The uniform grid is tried first, then random ones, then those of greatest expected improvement under a Gaussian
    process fitted to all trials so far. Nothing is better on validation data than what was tried, the uniform grid
    included; what is gained on other data is for other data to say.

    Args:
        objective: From a grid to a number to be made small, such as minus a score on validation data; may be noisy.
        num_steps: Steps of the sampler, at least 2.
        num_random: Random grids.
        num_guided: Grids chosen by the model.
        seed: Fixes the search.

    Raises:
        ValueError: Fewer than 2 steps, no trials, or an objective that is not finite.

    Source: Practical Bayesian Optimization of Machine Learning Algorithms (2012).
    """
    if num_steps < 2 or num_random < 1 or num_guided < 0:
        raise ValueError(
            "num_steps, num_random, num_guided: expected at least 2, 1 and 0, "
            f"found {num_steps}, {num_random} and {num_guided}."
        )
    rng = np.random.default_rng(seed)
    points = [_points(uniform(num_steps))]
    points += [np.sort(rng.random(num_steps - 1))[::-1] for _ in range(num_random)]
    values = [_value(objective, point) for point in points]
    for _ in range(num_guided):
        points.append(_next_point(np.stack(points), np.array(values), rng))
        values.append(_value(objective, points[-1]))
    best = int(np.argmin(values))
    grids = torch.stack([_grid(point) for point in points])
    return TimeSearch(grids[best], values[best], grids, torch.tensor(values, dtype=torch.float64))


def _points(grid: Tensor) -> Array:
    return grid[1:-1].numpy()


def _grid(point: Array) -> Tensor:
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.from_numpy(point.copy()), torch.zeros(1).double()])


def _value(objective: Callable[[Tensor], float], point: Array) -> float:
    value = float(objective(_grid(point)))
    if not np.isfinite(value):
        raise ValueError(f"objective: expected a finite number, found {value} at times {point.tolist()}.")
    return value


def _next_point(points: Array, values: Array, rng: np.random.Generator) -> Array:
    """The candidate of greatest expected improvement: half of them anywhere, half around the best so far."""
    model = _fitted(points, (values - values.mean()) / max(values.std(), 1e-12))
    best = points[np.argmin(values)]
    anywhere = rng.random((1000, points.shape[1]))
    nearby = best + rng.normal(size=(1000, points.shape[1])) * 0.3 * rng.random((1000, 1))
    candidates = np.sort(_folded(np.concatenate([anywhere, nearby])), axis=1)[:, ::-1]
    mean, std = model.predict(candidates, return_std=True)
    # The least expected value among the trials, not the least seen: a noisy objective may have been lucky.
    gain = model.predict(points).min() - mean
    z = gain / np.maximum(std, 1e-12)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return candidates[np.argmax(gain * ndtr(z) + std * density)]


def _folded(times: Array) -> Array:
    """Times inside (0, 1): mirrored at the ends, for clipped ones would coincide and a grid has to decrease."""
    least, width = 1e-3, 1 - 2e-3
    return least + np.abs((times - least + width) % (2 * width) - width)


def _fitted(points: Array, values: Array) -> Any:
    """A smooth function of the times plus noise, all scales found by the marginal likelihood."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(0.5, (0.05, 5.0), nu=2.5) + WhiteKernel(0.1, (1e-6, 1.0))
    with warnings.catch_warnings():
        # A scale at its bound is no failure: an objective without noise, or one that does not depend on the times.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, random_state=0).fit(points, values)
