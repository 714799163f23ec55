"""Whole rows drawn from factorised predictions, and what their weights say of each class of each cell."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.random import Noise, rand
from clarkia.spaces import State


def joint_draws(log_probs: Float[Tensor, "n ... k"], num_draws: int, generator: Noise = None) -> Int[Tensor, "n m ..."]:
    """Several draws of all cells of each row, every cell from its own prediction, in float64.

    Args:
        log_probs: ``(n, ..., K)``, at least one finite in each cell.
        num_draws: How many rows m to draw for each.
        generator: Source of randomness.

    Returns:
        int64 ``(n, m, ...)``.
    """
    uniforms = rand((len(log_probs), *log_probs.shape[1:-1], num_draws), generator, device=log_probs.device)
    # One cumulative distribution a cell serves all its draws.
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[..., -1:]
    threshold = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative.contiguous(), threshold, right=True).movedim(-1, 1)


def class_sums(draws: Int[Tensor, "n m ..."], weights: Float[Tensor, "n m"], classes: int) -> Float[Tensor, "n ... k"]:
    """The sum of the weights of the draws that have each class in each cell, float64 ``(n, ..., classes)``."""
    by_cell = draws.movedim(1, -1)
    spread = weights.reshape(len(weights), *(1,) * (draws.ndim - 2), -1).expand(by_cell.shape)
    empty = torch.zeros(*by_cell.shape[:-1], classes, dtype=weights.dtype, device=weights.device)
    return empty.scatter_add(-1, by_cell, spread)


def relative_weights(log_weights: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Weights whose largest in each row is 1; all 1 in a row whose draws are all excluded."""
    top = log_weights.amax(1, keepdim=True)
    return torch.where(top > -torch.inf, torch.exp(log_weights - torch.where(top > -torch.inf, top, 0.0)), 1.0)


def repeated(x: Tensor, num_draws: int) -> Tensor:
    """Each row of ``(n, ...)`` as often as there are draws, ``(n * m, ...)``, copies side by side."""
    return x.unsqueeze(1).expand(len(x), num_draws, *x.shape[1:]).flatten(0, 1)


def rows_of(x: State) -> int:
    """Rows of a state."""
    return len(x) if isinstance(x, Tensor) else len(next(iter(x.values())))


def checked(values: Any, rows: int, name: str) -> Float[Tensor, " n"]:
    """Log-factors of rows in float64.

    Raises:
        ValueError: Another shape than ``(rows,)``, a NaN or plus infinity; minus infinity excludes a row.
    """
    if not isinstance(values, Tensor) or values.shape != (rows,):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name}: expected one number a row, a tensor of shape ({rows},), found {found}.")
    bad = (values.isnan() | (values == torch.inf)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        found = float(values[row])
        raise ValueError(f"{name}: expected finite numbers or minus infinity, found {found} in row {row}.")
    return values.double()
