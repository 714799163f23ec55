"""A share or a median beside what held-out rows would give, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clarkia.measures.intervals import Interval, mean_interval, percentile_interval, rate_interval
from clarkia.random import Noise, rand

DRAWS = 1000


@dataclass(frozen=True)
class Rate:
    """A number about generated rows.

    Attributes:
        value: Of the generated rows.
        interval: 95 % interval over generated rows, the training and held-out rows being given.
        null: The same number for a generator that makes fresh rows: exact where it is known, else that of the
            held-out rows in place of the generated ones.
    """

    value: float
    interval: Interval
    null: float


def share(terms: np.ndarray, null: float, rng: np.random.Generator) -> Rate:
    """The mean of indicators; an exact interval where each is 0 or 1, a bootstrap where ties count one half."""
    value = float(terms.mean())
    if np.isin(terms, (0.0, 1.0)).all():
        return Rate(value, rate_interval(int(terms.sum()), len(terms)), null)
    return Rate(value, mean_interval(terms, rng=rng), null)


def median(values: np.ndarray, null: np.ndarray, rng: np.random.Generator) -> Rate:
    """The median of numbers, with a bootstrap interval."""
    # The median of a resample is an order statistic: only ranks are drawn.
    ordered = np.sort(values)
    ranks = np.sort(rng.integers(len(values), size=(DRAWS, len(values))), axis=1)
    middle = 0.5 * (ordered[ranks[:, (len(values) - 1) // 2]] + ordered[ranks[:, len(values) // 2]])
    return Rate(float(np.median(values)), percentile_interval(middle), float(np.median(null)))


def numpy_stream(generator: Noise) -> np.random.Generator:
    """A NumPy generator whose seed is drawn from a torch one; None draws from torch's own."""
    return np.random.default_rng(whole_number(generator))


def whole_number(generator: Noise) -> int:
    """A seed below 2^31, for libraries that take one."""
    source = generator if isinstance(generator, torch.Generator) else None
    return int(rand((1,), source) * 2**31)
