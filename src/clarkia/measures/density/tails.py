"""Hill's estimate of how heavy a tail is."""

from __future__ import annotations

import math

from jaxtyping import Float, Float64
from torch import Tensor


def hill_index(log_values: Float[Tensor, "*rows n"], num_top: int | None = None) -> Float64[Tensor, "*rows"]:
    """Index ``a`` of a tail ``P(X > x) ~ x^(-a)``, from the largest values; smaller is heavier.

    The mean of numbers with an index below 1 is infinite, their variance below 2. Its standard error is about
    ``a / sqrt(num_top)``.

    Args:
        log_values: Logarithms of positive numbers, ``(..., n)``, each row a sample of its own.
        num_top: How many of the largest are used, from 1 to n - 1; by default ``sqrt(n)`` rounded up, at least 10.

    Returns:
        Float64 ``(...)``; infinite where the largest values are equal.

    Raises:
        ValueError: Fewer than two numbers, a NaN or infinity, or a count out of range.

    Source: A Simple General Approach to Inference About the Tail of a Distribution (1975).
    """
    n = log_values.shape[-1] if log_values.ndim else 0
    if n < 2 or not bool(log_values.isfinite().all()):
        raise ValueError(
            f"log_values: expected at least 2 finite numbers a row, found shape {tuple(log_values.shape)}."
        )
    k = min(n - 1, max(10, math.ceil(math.sqrt(n)))) if num_top is None else num_top
    if not 1 <= k < n:
        raise ValueError(f"num_top: expected 1 to {n - 1}, found {num_top}.")
    top = log_values.double().topk(k + 1, dim=-1).values
    return 1 / (top[..., :k] - top[..., k:]).mean(-1)
