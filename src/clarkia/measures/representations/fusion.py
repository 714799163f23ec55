"""Two representations as one: joint principal components, and weighted unions of normalised features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.extractors import Extractor
from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features, pair


def fuse(parts: Sequence[Any], weights: Sequence[float] | None = None) -> Float64[Tensor, "n d"]:
    """Features side by side, each representation with unit rows times the root of its weight.

    The squared distance of two fused rows is then ``2 - 2 sum_i w_i cos_i``: nearest in the fused features is most
    similar in the weighted mean of cosines.

    Args:
        parts: Representations ``(n, d_i)`` of the same rows.
        weights: One positive weight a representation, scaled to sum to one; equal where None.

    Returns:
        ``(n, sum d_i)``; a row of zeros stays zero.

    Raises:
        ValueError: No parts, different numbers of rows, weights that do not fit.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    if not parts:
        raise ValueError("parts: expected at least one representation, found none.")
    rows = [features(part, f"parts[{i}]") for i, part in enumerate(parts)]
    counts = [len(part) for part in rows]
    if len(set(counts)) > 1:
        raise ValueError(f"parts: expected the same rows in each, found {counts} rows.")
    shares = check_weights(weights, len(rows))
    return torch.cat(
        [share**0.5 * torch.nn.functional.normalize(part, dim=1) for share, part in zip(shares, rows, strict=True)], 1
    )


def fuse_extractors(extractors: Sequence[Extractor], weights: Sequence[float] | None = None) -> Extractor:
    """Make one feature extractor of several; see `fuse`.

    Args:
        extractors: What to join; all are called on the same batch.
        weights: One positive weight each; equal where None.

    Raises:
        ValueError: No extractors, weights that do not fit.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    if not extractors:
        raise ValueError("extractors: expected at least one, found none.")
    shares = check_weights(weights, len(extractors))
    name = " + ".join(f"{share:g} {part.name}" for share, part in zip(shares, extractors, strict=True))
    fingerprint = "+".join(f"{share!r}:{part.fingerprint}" for share, part in zip(shares, extractors, strict=True))
    return Extractor(lambda batch: fuse([part(batch) for part in extractors], shares), name, fingerprint)


def co_pca(x: Any, y: Any, dim: int) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, "m k"]]:
    """Principal components of two sets of features together, so that both live in one space.

    Args:
        x: Features ``(n, d)``, say of the tokens of one image.
        y: Features ``(m, d)`` of another.
        dim: Number of components k; with as many as the rank all distances stay as they are.

    Returns:
        Coordinates of both, ``(n, k)`` and ``(m, k)``.

    Raises:
        ValueError: Features that are not finite rows of one width, more components than columns or rows.

    Source: A Tale of Two Features: Stable Diffusion Complements DINO for Zero-Shot Semantic Correspondence (2023).
    """
    x, y = pair(x, y)
    both = torch.cat([x, y])
    check_count(dim, "dim", most=min(both.shape))
    centred = both - both.mean(0)
    axes = torch.linalg.svd(centred.detach(), full_matrices=False)[2][:dim]
    found = centred @ axes.T
    return found[: len(x)], found[len(x) :]


def check_weights(weights: Any, count: int) -> list[float]:
    """Weights as numbers that sum to one; raises ``ValueError`` unless there are ``count`` positive ones."""
    values = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
    if values.shape != (count,) or not bool((values.isfinite() & (values > 0)).all()):
        raise ValueError(f"weights: expected {count} positive numbers, found {values.tolist()}.")
    return (values / values.sum()).tolist()
