"""Entropy of the geometry of features: over how many places does a slow random walk among the rows spread?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features
from clarkia.measures.representations.diffusion import (
    Normalisation,
    affinities,
    check_normalisation,
    default_bandwidth,
    diffusion_matrix,
    spectrum,
)
from clarkia.measures.representations.fourier import fourier_spectrum
from clarkia.measures.representations.nystrom import nystrom_spectrum
from clarkia.measures.representations.sampling import subsample
from clarkia.random import Noise

EXACT = 4_000  # rows up to which all eigenvalues are computed
CHECKED = 1_000  # rows of the sub-sample on which landmarks are compared with the exact spectrum


@dataclass(frozen=True, eq=False)
class SpectralEntropy:
    """A diffusion spectral entropy and what it depends on.

    Attributes:
        value: The entropy, 0-d float64; from 0 (one place) to ``log(num_rows)`` (every row for itself).
        bandwidth: s of the kernel; a value means nothing without it.
        t: Power of the eigenvalues.
        normalisation: Variant of the operator.
        num_rows: Rows it was computed on; values of different numbers of rows cannot be compared.
        large: Share of the powered eigenvalues above 0.01; about 1 % is a good choice of t.
        error: Difference that the same share of landmarks, or as many frequencies, makes on a sub-sample of at most
            1,000 rows, an indication and no bound; None of an exact spectrum.
    """

    value: Float64[Tensor, ""]
    bandwidth: float
    t: float
    normalisation: Normalisation
    num_rows: int
    large: float
    error: float | None = None

    def __float__(self) -> float:
        return float(self.value)


def diffusion_spectral_entropy(
    z: Any,
    *,
    bandwidth: float | None = None,
    t: float = 1,
    normalisation: Normalisation = "anisotropic",
    base: float = 2,
    variant: Literal["spectrum", "entries"] = "spectrum",
    neighbours: int | None = None,
    max_samples: int = 10_000,
    landmarks: int | Literal["auto"] | None = "auto",
    frequencies: int | None = None,
    generator: Noise = None,
) -> SpectralEntropy:
    """Entropy of the powered eigenvalues of the diffusion operator of some features.

    ``-sum_i p_i log p_i`` with ``p_i = l_i^t / sum_j l_j^t``. A larger t takes out noise. Differentiable in ``z``
    where the spectrum is exact or of frequencies.

    Args:
        z: Features ``(n, d)``.
        bandwidth: s of the kernel ``exp(-|z_i - z_j|^2 / (2 s^2))``, in the units of the features; the median distance
            over sqrt(2) where None. Freeze it to compare moments of a training run.
        t: Steps of the walk, a positive number.
        normalisation: ``"anisotropic"`` takes the density of the rows out of the walk, ``"random-walk"`` leaves it in.
        base: Of the logarithm; 2 for bits.
        variant: ``"entries"``: entropy of the entries of the t-step operator instead (t a whole number).
        neighbours: A graph of so many nearest neighbours instead of the Gaussian kernel.
        max_samples: Use a random sub-sample of larger sets.
        landmarks: Rows that stand for all in a Nystrom approximation; None for the exact spectrum, O(n^3); ``"auto"``:
            exact up to 4,000 rows, 1,000 landmarks beyond.
        frequencies: Random Fourier features of the kernel instead, so many frequencies, in time linear in the rows: for
            sets too large for landmarks, at bandwidths where rows have many neighbours.
        generator: Source of sub-sample, landmarks and frequencies.

    Returns:
        The entropy with bandwidth, variant and number of rows.

    Raises:
        ValueError: Features that are not finite rows, numbers out of their ranges, landmarks or frequencies for a
            variant without.

    Source: Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral Entropy
    (2023).
    """
    z = subsample(features(z, "z"), check_count(max_samples, "max_samples"), generator)
    check_options(bandwidth, t, normalisation, base)
    if frequencies is not None:
        check_count(frequencies, "frequencies")
    if neighbours is not None:
        check_count(neighbours, "neighbours", most=max(len(z) - 1, 1))
    s = float(bandwidth) if bandwidth is not None else default_bandwidth(z.detach(), generator=generator)
    plain = variant == "spectrum" and neighbours is None
    if frequencies is not None and (landmarks not in ("auto", None) or not plain):
        raise ValueError(f"frequencies: expected None with landmarks or for this variant, found {frequencies}.")
    count = _landmark_count(landmarks, len(z), plain) if frequencies is None else None
    if variant == "entries":
        value, large = _entries(affinities(z, s, neighbours), t, normalisation)
    elif variant == "spectrum":
        values = _eigenvalues(z, s, normalisation, neighbours, count, frequencies, generator)
        value, large = entropy_of(values, t), float((values.detach() ** t > 0.01).double().mean())
    else:
        raise ValueError(f"variant: expected 'spectrum' or 'entries', found {variant!r}.")
    error = None
    if count is not None or frequencies is not None:
        part = subsample(z.detach(), CHECKED, generator)
        fewer = None if count is None else max(1, count * len(part) // len(z))  # as many of these rows as of all
        near = _eigenvalues(part, s, normalisation, None, fewer, frequencies, generator)
        exact = _eigenvalues(part, s, normalisation, None, None, None, generator)
        error = float((entropy_of(near, t) - entropy_of(exact, t)).abs()) / math.log(base)
    return SpectralEntropy(value / math.log(base), s, t, normalisation, len(z), large, error)


def binned_entropy(z: Any, *, num_bins: int = 10, base: float = 2) -> float:
    """Shannon entropy of features in equal-width bins a column, the classic baseline.

    Every column is cut into ``num_bins`` bins between its extremes; a row's cell is the bins of all its columns. In
    many dimensions every row has a cell of its own and the value is ``log n``.

    Args:
        z: Features ``(n, d)``.
        num_bins: Bins a column.
        base: Of the logarithm; 2 for bits.

    Raises:
        ValueError: Features that are not finite rows, no bins, a base that is none.
    """
    z = features(z, "z").detach()
    check_options(None, 1, "anisotropic", base)
    codes = equal_width_bins(z, check_count(num_bins, "num_bins"))
    counts = codes.unique(dim=0, return_counts=True)[1].double()
    return float(torch.special.entr(counts / counts.sum()).sum()) / math.log(base)


def entropy_of(eigenvalues: Float64[Tensor, " n"], t: float) -> Float64[Tensor, ""]:
    """Entropy in nats of the eigenvalues to the power t, normalised to a distribution."""
    powered = eigenvalues[eigenvalues > 0] ** t  # a zero adds nothing, but its logarithm has no gradient
    powered = powered[powered > 0]
    return torch.special.entr(powered / powered.sum()).sum()


def equal_width_bins(z: Float64[Tensor, "n d"], num_bins: int) -> Tensor:
    """Bin of every value between the extremes of its column, int64 ``(n, d)``; 0 in a constant column."""
    low, high = z.amin(0), z.amax(0)
    width = torch.where(high > low, high - low, 1.0)
    return ((z - low) / width * num_bins).long().clamp(max=num_bins - 1)


def check_options(bandwidth: Any, t: Any, normalisation: str, base: Any) -> None:
    """Raise ``ValueError`` unless the numbers of a diffusion spectral entropy are in their ranges."""
    check_normalisation(normalisation)
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"bandwidth: expected a positive number, found {bandwidth}.")
    if not (math.isfinite(t) and t > 0):
        raise ValueError(f"t: expected a positive number, found {t}.")
    if not (math.isfinite(base) and base > 1):
        raise ValueError(f"base: expected a number above 1, found {base}.")


def _eigenvalues(
    z: Tensor,
    s: float,
    normalisation: Normalisation,
    neighbours: int | None,
    landmarks: int | None,
    frequencies: int | None,
    generator: Noise,
) -> Tensor:
    if frequencies is not None:
        return fourier_spectrum(z, s, frequencies, normalisation, generator=generator)
    if landmarks is not None:
        return nystrom_spectrum(z, s, landmarks, normalisation, generator=generator)
    return spectrum(diffusion_matrix(affinities(z, s, neighbours), normalisation))


def _entries(affinity: Tensor, t: float, normalisation: Normalisation) -> tuple[Tensor, float]:
    """Entropy in nats of the entries of the t-step transition matrix, and the share of those above 0.01."""
    if t != int(t):
        raise ValueError(f"t: expected a whole number of steps for the entries, found {t}.")
    if normalisation == "anisotropic":
        root = affinity.sum(1).rsqrt()
        affinity = root[:, None] * affinity * root
    walk = torch.linalg.matrix_power(affinity / affinity.sum(1, keepdim=True), int(t))
    return torch.special.entr(walk / walk.sum()).sum(), float((walk.detach() > 0.01).double().mean())


def _landmark_count(landmarks: Any, n: int, plain: bool) -> int | None:
    """Number of landmarks for n rows, None for the exact spectrum."""
    if landmarks == "auto":
        return min(1_000, n) if plain and n > EXACT else None
    if landmarks is None:
        return None
    if not plain:
        raise ValueError(f"landmarks: expected None for this variant, found {landmarks!r}.")
    return check_count(landmarks, "landmarks", most=n)
