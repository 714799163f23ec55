"""Laws of pure noise over clean classes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes.discrete import lacking


def flat(num_classes: int | tuple[int, ...]) -> Float[Tensor, "... k"]:
    """Every class of a position as likely as another, float64 ``(K,)`` or, with a count a position, ``(m, K_max)``."""
    if isinstance(num_classes, int):
        return torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    present = (~lacking(num_classes, torch.device("cpu"))).double()
    return present / present.sum(-1, keepdim=True)


def parse(source: Any, num_classes: int | tuple[int, ...]) -> Float[Tensor, "... k"]:
    """A source in float64, renormalised.

    Args:
        source: Probabilities ``(K,)``, or ``(m, K_max)`` with one row a position.
        num_classes: Class count, or one a position; then there must be as many rows.

    Raises:
        ValueError: Another shape, probabilities that are negative, do not sum to one (to 1e-6) or lie at classes a
            position lacks.
    """
    source = torch.as_tensor(source, dtype=torch.float64)
    if isinstance(num_classes, int):
        fits = source.ndim in (1, 2) and source.shape[-1] == num_classes
        wanted = f"({num_classes},) or (m, {num_classes})"
    else:
        shape = (len(num_classes), max(num_classes))
        fits, wanted = source.shape == shape, str(shape)
    if not fits:
        raise ValueError(f"source: expected shape {wanted}, found {tuple(source.shape)}.")
    total = source.sum(-1, keepdim=True)
    if not bool((source >= 0).all()) or bool(((total - 1).abs() > 1e-6).any()):
        worst = float(total.flatten()[(total - 1).abs().argmax()])
        raise ValueError(
            "source: expected non-negative probabilities that sum to one, "
            f"found sum {worst:.6g} and minimum {float(source.min()):.3g}."
        )
    if not isinstance(num_classes, int) and bool((source[lacking(num_classes, source.device)] > 0).any()):
        raise ValueError("source: expected probability 0 at classes a position lacks, found mass there.")
    return source / total
