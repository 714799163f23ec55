"""What features cost against what they are still good for: rate-task curves and the saving of one over another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clarkia.measures.representations.feature_codec import bits_per_value


class Codec(Protocol):
    """Features to bytes and back: `FeatureCodec`, `LearnedCodec`, or a user's own."""

    def encode(self, x: Tensor) -> bytes:
        """Features as bytes, all included that must be stored with them."""
        ...

    def decode(self, data: bytes) -> Tensor:
        """Features of the same shape."""
        ...


@dataclass(frozen=True)
class RatePoint:
    """One codec on one set of features.

    Attributes:
        bits: Bits a value, side information included.
        error: Mean squared error of the values that are read back.
        quality: What the task says of them.
    """

    bits: float
    error: float
    quality: float


def rate_task_curve(
    codecs: Mapping[Any, Codec], x: Float[Tensor, "n ..."], task: Callable[[Tensor], float]
) -> dict[Any, RatePoint]:
    """Code features with several codecs and ask a fixed task about what comes back.

    Args:
        codecs: The codecs, by name.
        x: Features ``(n, ...)``.
        task: A number about features like ``x``, larger is better: the accuracy of a head fitted on the features
            themselves, say.

    Raises:
        ValueError: What the codecs raise.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """
    curve = {}
    for name, codec in codecs.items():
        data = codec.encode(x)
        back = codec.decode(data).to(x.dtype)
        error = float((back.double() - x.double()).square().mean())
        curve[name] = RatePoint(bits_per_value(data, x), error, float(task(back)))
    return curve


def average_saving(
    rates: Sequence[float] | np.ndarray,
    qualities: Sequence[float] | np.ndarray,
    other_rates: Sequence[float] | np.ndarray,
    other_qualities: Sequence[float] | np.ndarray,
) -> float:
    """Bits that one curve saves over another at equal quality, as a mean over the qualities that both reach.

    The logarithm of the rate is interpolated over the quality by monotone cubics, as Bjontegaard's average is.

    Args:
        rates: Bits a value of the curve in question, at least two points.
        qualities: Its qualities, distinct.
        other_rates: Of the curve that it is compared with.
        other_qualities: Its qualities.

    Returns:
        Relative saving: 0.2 where a fifth of the bits is saved, negative where more are needed.

    Raises:
        ValueError: Too few points, rates that are not positive, qualities that repeat or do not overlap.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """
    from scipy.interpolate import PchipInterpolator

    curves, ranges = [], []
    for r, q, name in ((rates, qualities, "rates"), (other_rates, other_qualities, "other_rates")):
        rate, quality = np.asarray(r, np.float64), np.asarray(q, np.float64)
        if rate.shape != quality.shape or rate.ndim != 1 or len(rate) < 2 or not (rate > 0).all():
            raise ValueError(f"{name}: expected two or more positive rates, one a quality, found {rate.tolist()}.")
        order = np.argsort(quality)
        if not np.isfinite(quality).all() or (np.diff(quality[order]) <= 0).any():
            raise ValueError(f"{name}: expected distinct finite qualities, found {quality.tolist()}.")
        curves.append(PchipInterpolator(quality[order], np.log(rate[order])))
        ranges.append((quality.min(), quality.max()))
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if not low < high:
        raise ValueError(f"qualities: expected two curves that overlap, found none between {low:g} and {high:g}.")
    first, second = (float(curve.integrate(low, high)) / (high - low) for curve in curves)
    return 1 - math.exp(first - second)


def gaussian_rate(error: float, variance: float = 1.0) -> float:
    """Bits a value that any code of normal data needs for a mean squared error: ``log2(variance / error) / 2``.

    Raises:
        ValueError: An error or variance that is not positive.
    """
    if not (error > 0 and variance > 0):
        raise ValueError(f"error: expected positive error and variance, found {error}, {variance}.")
    return max(0.0, 0.5 * math.log2(variance / error))
