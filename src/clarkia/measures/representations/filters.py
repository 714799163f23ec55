"""Health of convolution filters: which layers are dead, collapsed or random, and how two sets of filters differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.fields.checks import check_count
from clarkia.random import generator

DEAD = 0.01  # a filter is sparse where no weight exceeds this share of the layer's largest
LOW_DIVERSITY = 0.5
FEW = 128  # filters below which the threshold comes from draws and not from its fit
DRAWS = 2_000


@dataclass(frozen=True)
class LayerFilters:
    """The 3 x 3 filters of one layer.

    Attributes:
        name: Of the layer.
        num_filters: Outputs times inputs.
        sparsity: Share of filters whose weights all lie below 1 % of the layer's largest.
        entropy: Variance entropy, from 0 (all filters are multiples of one pattern) to log10 9 = 0.954.
        entropy_without_sparse: The same of the filters that are not sparse; NaN where fewer than two are left.
        threshold: Entropy from which on the layer cannot be told from normal noise.
        orthogonality: 1 where the outputs' whole filters are orthogonal, 0 where they are parallel; NaN of one output.
    """

    name: str
    num_filters: int
    sparsity: float
    entropy: float
    entropy_without_sparse: float
    threshold: float
    orthogonality: float

    @property
    def random(self) -> bool:
        """Whether the filters cannot be told from noise: not trained, or not needed."""
        return self.entropy >= self.threshold

    @property
    def low_diversity(self) -> bool:
        """Whether the filters are nearly multiples of few patterns."""
        return self.entropy < LOW_DIVERSITY

    @property
    def degenerate(self) -> bool:
        """Whether anything is wrong: random, of low diversity, or mostly sparse."""
        return self.random or self.low_diversity or self.sparsity > 0.5


def conv_filters(module: nn.Module) -> tuple[LayerFilters, ...]:
    """Look at every layer of 3 x 3 filters of a network.

    Args:
        module: The network. A layer's weights are those it computes with: parametrisations count.

    Returns:
        One entry a layer, in the module's order.

    Raises:
        ValueError: No such layer, or weights that are not finite.

    Source: CNN Filter DB: An Empirical Investigation of Trained Convolutional Filters (2022).
    """
    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    if not layers:
        raise ValueError(f"module: expected a layer of 3 x 3 filters, found none in {type(module).__name__}.")
    return tuple(filter_statistics(layer.weight, name) for name, layer in layers)


def filter_statistics(weight: Float[Tensor, "out in 3 3"], name: str = "weight") -> LayerFilters:
    """Sparsity, variance entropy and orthogonality of one layer's filters.

    Args:
        weight: Filters ``(out, in, 3, 3)``.
        name: Of the layer, for the result and for errors.

    Raises:
        ValueError: Weights of another shape or not finite.

    Source: CNN Filter DB: An Empirical Investigation of Trained Convolutional Filters (2022).
    """
    rows = filter_rows(weight, name)
    dead = (
        (rows.abs() < DEAD * rows.abs().max()).all(1) if bool(rows.any()) else torch.ones(len(rows), dtype=torch.bool)
    )
    return LayerFilters(
        name=name,
        num_filters=len(rows),
        sparsity=float(dead.double().mean()),
        entropy=variance_entropy(rows),
        entropy_without_sparse=variance_entropy(rows[~dead]) if int((~dead).sum()) > 1 else math.nan,
        threshold=random_threshold(len(rows)),
        orthogonality=_orthogonality(rows.reshape(len(weight), -1)),
    )


def variance_entropy(rows: Float[Tensor, "n 9"]) -> float:
    """Entropy to base 10 of the shares of variance along the principal axes; 0 where the rows are all equal."""
    rows = rows.double()
    energy = torch.linalg.svdvals(rows - rows.mean(0)).square()
    if not float(energy.sum()) > 0:
        return 0.0
    return float(torch.special.entr(energy / energy.sum()).sum()) / math.log(10)


def random_threshold(num_filters: int) -> float:
    """Variance entropy that normal noise of so many filters reaches almost always.

    The published fit, a logistic curve of log2 n; below 128 filters, where noise falls below that fit, the 1 % quantile
    of seeded draws.
    """
    if num_filters >= FEW:
        steepness, centre = 0.88767525, 2.30436435
        return 1.2618047 / (1 + math.exp(-steepness * (math.log2(num_filters) - centre))) - 0.31050834
    return _drawn_threshold(num_filters)


def filter_shift(a: Any, b: Any, *, num_bins: int = 64) -> float:
    """Distance between the 3 x 3 filters of two networks, or of two layers.

    Every filter is scaled by its largest weight. On the principal axes of both sets together, the symmetrised
    Kullback-Leibler divergences (nats) of the histograms are added up, weighted by the axes' shares of the variance.

    Args:
        a: A network, or filters ``(out, in, 3, 3)``.
        b: Another.
        num_bins: Bins between the extremes of an axis; the shares of both sets are held above 1e-10.

    Returns:
        0 where both are the same; symmetric.

    Raises:
        ValueError: Filters of another shape or not finite, or all zero.

    Source: CNN Filter DB: An Empirical Investigation of Trained Convolutional Filters (2022).
    """
    check_count(num_bins, "num_bins", least=2)
    first, second = (_scaled(rows, name) for rows, name in ((a, "a"), (b, "b")))
    both = torch.cat([first, second])
    both = both - both.mean(0)
    _, sizes, axes = torch.linalg.svd(both, full_matrices=False)
    shares = sizes.square() / sizes.square().sum().clamp(min=torch.finfo(torch.float64).tiny)  # bounds equal filters
    coordinates = both @ axes.T
    total = 0.0
    for share, values in zip(shares, coordinates.T, strict=True):
        low, high = float(values.min()), float(values.max())
        if not high > low:
            continue
        p, q = (
            (part.histc(num_bins, low, high) / len(part)).clamp(min=1e-10)
            for part in (values[: len(first)], values[len(first) :])
        )
        total += float(share) * float(((p - q) * (p.log() - q.log())).sum())
    return total


def filter_rows(weight: Any, name: str) -> Float[Tensor, "n 9"]:
    """Filters as float64 rows of nine; raises ``ValueError`` for other shapes and values that are not finite."""
    if not isinstance(weight, Tensor) or weight.ndim != 4 or weight.shape[2:] != (3, 3) or not weight.numel():
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"{name}: expected filters of shape (out, in, 3, 3), found {found}.")
    rows = weight.detach().double().reshape(-1, 9)
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(f"{name}: expected finite weights, found NaN or infinity in filter {int(bad.int().argmax())}.")
    return rows


def _orthogonality(rows: Tensor) -> float:
    """One minus the mean absolute cosine between different rows; a row of zeros is orthogonal to all."""
    count = len(rows)
    if count < 2:
        return math.nan
    cosines = nn.functional.normalize(rows, dim=1)
    off = (cosines @ cosines.T).abs().sum() - cosines.square().sum()
    return 1.0 - float(off) / (count * (count - 1))


@lru_cache(maxsize=256)
def _drawn_threshold(num_filters: int) -> float:
    noise = torch.randn(DRAWS, num_filters, 9, generator=generator(0, num_filters), dtype=torch.float64)
    energy = torch.linalg.svdvals(noise - noise.mean(1, keepdim=True)).square()
    entropy = torch.special.entr(energy / energy.sum(1, keepdim=True).clamp(min=1e-300)).sum(1) / math.log(10)
    return float(entropy.quantile(0.01))


def _scaled(source: Any, name: str) -> Tensor:
    """All filters of a network or layer that are not zero, each over its largest weight."""
    if isinstance(source, nn.Module):
        layers = [m for m in source.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        if not layers:
            raise ValueError(f"{name}: expected a layer of 3 x 3 filters, found none in {type(source).__name__}.")
        rows = torch.cat([filter_rows(layer.weight, name) for layer in layers])
    else:
        rows = filter_rows(source, name)
    largest = rows.abs().amax(1, keepdim=True)
    rows = (rows / largest)[largest[:, 0] > 0]
    if not len(rows):
        raise ValueError(f"{name}: expected filters that are not all zero, found none.")
    return rows
