"""Means over a uniform number from stratified draws that tell their own error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.random import Noise, rand


def stratified_mean(
    value: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]],
    rows: int,
    num_draws: int,
    generator: Noise = None,
    *,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Mean of ``value(u)`` over u uniform in [0, 1), a row at a time, and its standard error.

    There are ``num_draws / 2`` equal strata of u with two independent draws in each. The gap of a pair estimates the
    variance within its stratum without bias, which is all the variance that stratification leaves.

    Args:
        value: Called ``num_draws`` times with one u a row; returns float64 ``(n,)``, or several of them ``(m, n)``.
        rows: n.
        num_draws: An even number.
        generator: Source of randomness.
        device: Where u lives.

    Returns:
        Mean and standard error, float64, of the shape of a value.
    """
    if num_draws < 2 or num_draws % 2:
        raise ValueError(f"num_draws: expected an even number of at least 2, found {num_draws}.")
    strata = num_draws // 2
    total = squares = torch.zeros(rows, dtype=torch.float64, device=device)
    for stratum in range(strata):
        first, second = (value((stratum + rand((rows,), generator, device=device)) / strata) for _ in range(2))
        total = total + first + second
        # Two infinite values (an impossible row) agree; their difference would be NaN.
        squares = squares + torch.where(first == second, 0.0, first - second).square()
    return total / num_draws, squares.sqrt() / num_draws
